"""Wheels of Keras and TensorFlow: the last patch of every minor release, and the newest unreleased.

They come from the registry that pip is configured for, into a folder that is kept. pip downloads a
wheel only if the folder does not have it.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from tests.upstream_history.release import Release


@dataclass(frozen=True)
class Library:
    """What to download.

    Attributes:
        package: The package that it installs.
        released: The distribution of releases.
        first: The first minor release of interest.
        unreleased: What pip is asked for to get the newest version of all.
        label: What the newest version is called in the table if it is not released.
        python: The version of Python whose wheels are taken, because old releases have none for
            the newest.
    """

    package: str
    released: str
    first: tuple[int, int]
    unreleased: str
    label: str
    python: str


KERAS = Library("keras", "keras", (3, 0), "keras-nightly>=3.dev0", "nightly", "3.11")
TENSORFLOW = Library(
    "tensorflow", "tensorflow-cpu", (2, 16), "tensorflow-cpu>=2.dev0", "rc", "3.11"
)


@dataclass(frozen=True)
class Wheel:
    """One downloaded release.

    Attributes:
        name: `"3.15"`, or the label of what is not released.
        version: `"3.15.1"`.
        path: The file.
    """

    name: str
    version: str
    path: Path

    def release(self) -> Release:
        """Opens its sources."""
        return Release(self.name, zipfile.ZipFile(self.path).read)


def wheels(library: Library, cache: Path) -> Iterator[Wheel]:
    """Yields releases, the oldest first; downloads what is missing.

    Args:
        library: What to download.
        cache: The folder that keeps the files.

    Raises:
        RuntimeError: If pip fails.
    """
    newest = _version(_downloaded(library, library.released, cache / "newest"))
    major, first = library.first
    for minor in range(first, newest.minor + 1):
        name = f"{major}.{minor}"
        path = _downloaded(library, f"{library.released}=={name}.*", cache / name)
        yield Wheel(name, str(_version(path)), path)
    path = _downloaded(library, library.unreleased, cache / library.label)
    if _version(path) > newest:
        yield Wheel(library.label, str(_version(path)), path)


def _downloaded(library: Library, requirement: str, folder: Path) -> Path:
    """Returns the newest wheel that meets a requirement; `folder` is for this one only."""
    command = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", f"--python-version={library.python}"]
    command += [f"--dest={folder}", requirement]
    ended = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(
            f"`{requirement}` must be on the registry. Received from pip: {ended.stderr.strip()} "
            "Run it again with a network, or remove the folder of an interrupted download: "
            f"{folder}."
        )
    return max(folder.glob("*.whl"), key=_version)


def _version(wheel: Path) -> Version:
    return parse_wheel_filename(wheel.name)[1]
