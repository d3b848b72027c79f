"""Accidents of a checkpoint, and things put in the place of its files."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.checkpoint_damage.made import NEWEST, STEPS, Files, name


@dataclass(frozen=True)
class Scene:
    """A run to damage.

    Attributes:
        root: Its folder.
        outside: A folder outside it with a copy of all checkpoints.
        files: The files of each step as they were written.
    """

    root: Path
    outside: Path
    files: dict[int, Files]

    @property
    def newest(self) -> Path:
        return self.root / name(NEWEST)


def _bytes(change: Callable[[bytearray, Random], bytearray]) -> Callable[[Scene, Random], None]:
    def damage(scene: Scene, rng: Random) -> None:
        path = scene.newest / rng.choice(sorted(scene.files[NEWEST]))
        path.write_bytes(change(bytearray(path.read_bytes()), rng))

    return damage


def _range(data: bytearray, rng: Random) -> tuple[int, int]:
    first = rng.randrange(len(data))
    return first, min(len(data), first + rng.choice([1, 4, 16, 64, 512]))


def flip_bits(data: bytearray, rng: Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def cut(data: bytearray, rng: Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def extend(data: bytearray, rng: Random) -> bytearray:
    return data + rng.randbytes(rng.randrange(1, 100))


def repeat(data: bytearray, rng: Random) -> bytearray:
    first, last = _range(data, rng)
    return data[:last] + data[first:]


def drop(data: bytearray, rng: Random) -> bytearray:
    first, last = _range(data, rng)
    return data[:first] + data[last:]


def blank(data: bytearray, rng: Random) -> bytearray:
    first, last = _range(data, rng)
    data[first:last] = bytes(last - first)
    return data


def exchange(data: bytearray, rng: Random) -> bytearray:
    length = rng.randrange(1, len(data) // 2)
    first = rng.randrange(len(data) - 2 * length + 1)
    second = rng.randrange(first + length, len(data) - length + 1)
    one, other = data[first : first + length], data[second : second + length]
    data[first : first + length], data[second : second + length] = other, one
    return data


def delete(scene: Scene, rng: Random) -> None:
    (scene.newest / rng.choice(sorted(scene.files[NEWEST]))).unlink()


def mix(scene: Scene, rng: Random) -> None:
    """Replaces a file by one of the older checkpoint, or of another name."""
    names = sorted(scene.files[NEWEST])
    source = scene.files[rng.choice(STEPS)][rng.choice(names)]
    (scene.newest / rng.choice(names)).write_bytes(source)


def rename(scene: Scene, rng: Random) -> None:
    scene.newest.rename(scene.root / name(rng.choice([3, 5, 2**40])))


def _things(rng: Random) -> Callable[[Path, Path], None]:
    """Returns the function that makes the replacement of a file or folder, from a true copy."""

    def pipe(path: Path, copy: Path) -> None:
        os.mkfifo(path)

    def folder(path: Path, copy: Path) -> None:
        path.mkdir()

    def link(path: Path, copy: Path) -> None:
        path.symlink_to(copy)

    def loop(path: Path, copy: Path) -> None:
        path.symlink_to(path)

    def door(path: Path, copy: Path) -> None:
        folder = os.open(path.parent, os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path may be too long for it
        os.close(folder)

    def device(path: Path, copy: Path) -> None:
        path.symlink_to("/dev/zero")

    def file(path: Path, copy: Path) -> None:
        path.write_bytes(b"x")

    return rng.choice([pipe, folder, link, loop, door, device, file])


def replace_a_file(scene: Scene, rng: Random) -> None:
    path = scene.newest / rng.choice(sorted(scene.files[NEWEST]))
    path.unlink()
    _things(rng)(path, scene.outside / name(NEWEST) / path.name)


def replace_the_folder(scene: Scene, rng: Random) -> None:
    shutil.rmtree(scene.newest)
    _things(rng)(scene.newest, scene.outside / name(NEWEST))


ACCIDENTS: dict[str, Callable[[Scene, Random], None]] = {
    "flipped bits": _bytes(flip_bits),
    "cut short": _bytes(cut),
    "bytes appended": _bytes(extend),
    "bytes repeated": _bytes(repeat),
    "bytes lost": _bytes(drop),
    "a block of zeros": _bytes(blank),
    "parts exchanged": _bytes(exchange),
    "a file lost": delete,
    "files mixed up": mix,
    "another step's name": rename,
    "no file in a file's place": replace_a_file,
    "no folder in its place": replace_the_folder,
}
