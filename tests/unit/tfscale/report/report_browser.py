"""A real browser for tests: Chromium without a window, driven through a pipe.

    python tests/unit/tfscale/report/report_browser.py FOLDER   # installs one: 64 MB

Taken is the program that the environment variable TFSCALE_CHROMIUM names, else the one that
`make browser-test` installed. A browser of the machine is not used: it may be a stub.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Chromium 147 with the libraries and fonts that a bare machine lacks; it needs only glibc. It comes
# from the npm registry, because the Python packages of browsers download from elsewhere.
PACKAGE = "@sparticuz/chromium@153.0.0"
SHA512 = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="

ROOT = Path(__file__).resolve().parents[4]
INSTALLED = ROOT / ".venv" / "browser"

_DEADLINE = 60.0
# A script that failed, what one printed, and what the browser says, such as a refused script.
_ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
# The package's own names folders of the service it was made for.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir prefix="relative">fonts-cache</cachedir>
</fontconfig>
"""
_UNPACK = """
const fs = require("fs"), zlib = require("zlib"), [from, to] = process.argv.slice(1);
for (const name of fs.readdirSync(from)) {
  fs.writeFileSync(`${to}/${name.slice(0, -3)}`,
                   zlib.brotliDecompressSync(fs.readFileSync(`${from}/${name}`)));
}
"""


def find() -> str | None:
    """Returns the program of a browser, or None without one."""
    named = os.environ.get("TFSCALE_CHROMIUM")
    if named:
        return named
    return str(INSTALLED / "chromium") if (INSTALLED / "chromium").exists() else None


def install(folder: Path) -> None:
    """Installs Chromium into a folder, which is replaced; needs npm and Linux on x86-64."""
    missing = [name for name in ("npm", "node") if shutil.which(name) is None]
    if missing:
        sys.exit(f"The browser comes through npm: install {' and '.join(missing)}.")
    with tempfile.TemporaryDirectory() as temporary:
        loaded = Path(temporary)
        npm = ["npm", "pack", "--loglevel=error", "--pack-destination", temporary, PACKAGE]
        subprocess.run(npm, check=True, timeout=600)
        (archive,) = loaded.glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != SHA512:
            sys.exit(f"{PACKAGE} must have the SHA-512 {SHA512}. Received: {found}.")
        with tarfile.open(archive) as file:
            file.extractall(loaded, filter="data")
        partial = loaded / "browser"
        partial.mkdir()
        packed = loaded / "package" / "bin"
        subprocess.run(["node", "-e", _UNPACK, str(packed), str(partial)], check=True, timeout=600)
        for name in ("al2023.tar", "fonts.tar"):
            with tarfile.open(partial / name) as file:
                file.extractall(partial, filter="data")
            (partial / name).unlink()
        (partial / "swiftshader.tar").unlink()  # For WebGL.
        (partial / "fonts.conf").write_text(_FONTS)
        (partial / "chromium").chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(partial, folder)


class Page:
    """One page of a browser that runs, by the Chrome DevTools Protocol."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._left, self._count, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Calls a method of the protocol and returns its result; notes requests meanwhile."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def show(self, path: Path, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Opens a file in a window of this size, and waits until it has been laid out."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """Returns the JSON value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{expression}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def point(self, selector: str, across: float, down: float, *, touch: bool = False) -> None:
        """Moves the mouse over an element, or taps on it; places are parts of its size."""
        x, y = self.evaluate(
            f"(box => [box.x + box.width * {across!r}, box.y + box.height * {down!r}])"
            "((e => (e.scrollIntoView({block: 'center'}), e.getBoundingClientRect()))"
            f"(document.querySelector({json.dumps(selector)})))"
        )
        if touch:
            here = [{"x": x, "y": y}]
            self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=here)
            self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        else:
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Presses and releases a key, such as "ArrowLeft"."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, selector: str = "html") -> bytes:
        """Returns the first element that a selector finds, as PNG; by default the whole page."""
        box = self.evaluate(
            "(({x, y, width, height}) => ({x, y: y + scrollY, width, height, scale: 1}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=box)
        return base64.b64decode(shot["data"])

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _DEADLINE
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser said nothing for {_DEADLINE:.0f} s")
            received = os.read(self._from, 1 << 20)
            if not received:
                raise EOFError("the browser has ended")
            self._left += received
        text, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif message.get("method") in _ERRORS:
            self.errors.append(json.dumps(message["params"]))
        return message


@contextlib.contextmanager
def browser(program: str) -> Iterator[Page]:
    """Starts a browser and ends it."""
    folder = Path(program).resolve().parent
    environment = dict(os.environ)
    if (folder / "fonts.conf").exists():
        # The browser that `install` unpacked, with its libraries and fonts next to it.
        environment |= {"LD_LIBRARY_PATH": str(folder / "lib"), "FONTCONFIG_PATH": str(folder)}
    reads, to_browser = os.pipe()
    from_browser, writes = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads from descriptor 3 and writes to 4.
        shell = f'exec "$0" "$@" 3<&{reads} 4>&{writes}'
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command = [str(Path(program).resolve()), *flags]
        command += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["bash", "-c", shell, *command],
            pass_fds=(reads, writes),
            env=environment,
            cwd=profile,  # fontconfig writes its cache to the current folder
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        try:
            yield Page(to_browser, from_browser)
        finally:
            process.kill()
            process.wait(_DEADLINE)
            os.close(to_browser)
            os.close(from_browser)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
