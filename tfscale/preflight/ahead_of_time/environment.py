"""The environment that the chip's compiler lives in: made on request, of pinned versions, once.

JAX and libtpu bring an XLA of their own, which must not be loaded beside TensorFlow's. So they
stand apart, in `tfscale/preflight/<versions>` of the user's cache, with a Python of their own.
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

# libtpu compiles for a chip that is not there only by the private interface of this JAX.
JAX, LIBTPU = "0.10.2", "0.0.52"
REQUIREMENTS = (f"jax=={JAX}", f"jaxlib=={JAX}", f"libtpu=={LIBTPU}")
WHEELS_MB, DISK_MB = 225, 1100

_MADE = "made.txt"
_EVERY_SECONDS = 10.0


class NoEnvironment(Exception):
    """There is no environment to compile in; the text says how to come by one."""


def cache_folder() -> Path:
    """Returns the folder for what can be made again: in XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tfscale" / "preflight"


def default_environment() -> Path:
    """Returns where the environment stands if nobody says otherwise."""
    return cache_folder() / f"jax-{JAX}-libtpu-{LIBTPU}"


def environment_python(folder: Path) -> Path:
    """Returns the interpreter of an environment.

    Args:
        folder: Made by `make_environment`.

    Raises:
        NoEnvironment: If it is not there, or holds other versions.
    """
    cure = (
        f"Say --make_environment to make it: it downloads {WHEELS_MB} MB of wheels and takes "
        f"{DISK_MB} MB there."
    )
    if not (folder / _MADE).is_file():
        raise NoEnvironment(f"compiling for a chip needs an environment in {folder}. {cure}")
    held = tuple((folder / _MADE).read_text("utf-8").split())
    if held != REQUIREMENTS:
        raise NoEnvironment(
            f"the environment in {folder} must hold {' '.join(REQUIREMENTS)}. Received: "
            f"{' '.join(held) or 'nothing'}. Remove the folder. {cure}"
        )
    return folder / "bin" / "python"


def make_environment(
    folder: Path,
    say: Callable[[str], None],
    *,
    requirements: tuple[str, ...] = REQUIREMENTS,
    timeout_seconds: float = 1800.0,
) -> None:
    """Makes the environment; one that is there already is left as it is.

    It is made under another name and renamed, so that a folder of this name is whole.

    Args:
        folder: Where it shall stand.
        say: Told how large it is, and every few seconds that it goes on.
        requirements: What pip is to install.
        timeout_seconds: Deadline of the whole. Positive.

    Raises:
        NoEnvironment: If it cannot be made in time; the text holds pip's exit reason.
    """
    if (folder / _MADE).is_file():
        environment_python(folder)
        say(f"the environment in {folder} is there already")
        return
    if folder.exists():
        raise NoEnvironment(
            f"`--environment` must be a folder that is not there yet, or one made by tfscale. "
            f"Received: {folder}. Name another."
        )
    say(
        f"making an environment in {folder}: {' '.join(requirements)}, {WHEELS_MB} MB of wheels to "
        f"download, {DISK_MB} MB on disk"
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
    return f"It said last: {' '.join(' '.join(lines[-6:]).split()) or 'nothing'}"


if __name__ == "__main__":  # `make preflight`
    make_environment(default_environment(), lambda line: print(line, flush=True))
