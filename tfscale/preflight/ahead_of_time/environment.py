"""The Python environment of the chip's compiler: created on request, with pinned versions.

JAX and libtpu bring their own XLA, which must not be loaded together with TensorFlow's. So they are
installed in a separate virtual environment, `tfscale/preflight/<versions>` in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from strategies.extension import Deadline
from tfscale.preflight.ahead_of_time.progress import TookTooLong, run_with_progress

# libtpu compiles without a chip only through the private interface of this JAX version.
JAX, LIBTPU = "0.10.2", "0.0.52"
REQUIREMENTS = (f"jax=={JAX}", f"jaxlib=={JAX}", f"libtpu=={LIBTPU}")
WHEELS_MB, DISK_MB = 225, 1100

_MADE = "made.txt"
_EVERY_SECONDS = 10.0


class NoEnvironment(Exception):
    """Raised if there is no environment to compile in. The text says how to create one."""


def cache_folder() -> Path:
    """Returns the cache folder, in XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tfscale" / "preflight"


def default_environment() -> Path:
    """Returns the default folder of the environment."""
    return cache_folder() / f"jax-{JAX}-libtpu-{LIBTPU}"


def environment_python(folder: Path) -> Path:
    """Returns the Python interpreter of an environment.

    Args:
        folder: A folder that `make_environment` created.

    Raises:
        NoEnvironment: If it does not exist, or has other versions.
    """
    cure = (
        f"Pass --make_environment to create it: it downloads {WHEELS_MB} MB of wheels and needs "
        f"{DISK_MB} MB of disk space."
    )
    if not (folder / _MADE).is_file():
        raise NoEnvironment(f"compiling for a chip needs an environment in {folder}. {cure}")
    installed = tuple((folder / _MADE).read_text("utf-8").split())
    if installed != REQUIREMENTS:
        raise NoEnvironment(
            f"the environment in {folder} must have {' '.join(REQUIREMENTS)}. Received: "
            f"{' '.join(installed) or 'nothing'}. Remove the folder. {cure}"
        )
    return folder / "bin" / "python"


def make_environment(
    folder: Path,
    say: Callable[[str], None],
    *,
    requirements: tuple[str, ...] = REQUIREMENTS,
    timeout_seconds: float = 1800.0,
) -> None:
    """Creates the environment. An existing one is not changed.

    It is created under another name and then renamed, so that it is never incomplete.

    Args:
        folder: The folder of the environment.
        say: Called with the size, and every few seconds with a line of progress.
        requirements: The packages for pip to install.
        timeout_seconds: Deadline of all steps together. Positive.

    Raises:
        NoEnvironment: If it cannot be created in time. The text contains the last output of pip.
    """
    if (folder / _MADE).is_file():
        environment_python(folder)
        say(f"the environment in {folder} already exists")
        return
    if folder.exists():
        raise NoEnvironment(
            f"`--environment` must be a folder that does not exist, or one created by tfscale. "
            f"Received: {folder}. Choose another folder."
        )
    say(
        f"creating an environment in {folder}: {' '.join(requirements)}, {WHEELS_MB} MB of wheels "
        f"to download, {DISK_MB} MB on disk"
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.making-", dir=folder.parent))
    deadline = Deadline(timeout_seconds)
    try:
        log = making / "pip.log"
        _run([sys.executable, "-m", "venv", str(making)], log, deadline, say)
        pip = [str(making / "bin" / "python"), "-m", "pip", "install", "--no-input", "--quiet"]
        _run([*pip, "--disable-pip-version-check", *requirements], log, deadline, say)
        (making / _MADE).write_text("\n".join(requirements), "utf-8")
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    say(f"the environment is ready in {folder}")


def _run(command: list[str], log: Path, deadline: Deadline, say: Callable[[str], None]) -> None:
    try:
        status = run_with_progress(command, log, deadline, say, "installing", every=_EVERY_SECONDS)
    except TookTooLong:
        raise NoEnvironment(f"`{' '.join(command)}` took too long. {_tail(log)}") from None
    if status:
        raise NoEnvironment(f"`{' '.join(command)}` ended with status {status}. {_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").split("\n")
    return f"Last output: {' '.join(' '.join(lines[-6:]).split()) or 'none'}"


if __name__ == "__main__":  # `make preflight`
    make_environment(default_environment(), lambda line: print(line, flush=True))
