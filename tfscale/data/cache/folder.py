"""A folder of caches. Each is a folder that appears under its key once it is complete.

WHERE/<key>/manifest.json, rows, checksums and, if rows differ in size, offsets
WHERE/.<key>.<random>.partial/    while a process fills it
WHERE/<key>.claim-<random>        while a process fills it: see `WorkLock`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategies.extension import announce
from tfscale.data.cache.stored_rows import FileSink, StoredRows, opened, writing
from tfscale.data.work_lock import WorkLock, do_once
from tfscale.files.output_files import reason
from tfscale.files.room import megabytes

_MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{32}")
# A filling process shows life six times in this time.
_SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class CacheFolder:
    """One cache in a folder of caches.

    Attributes:
        where: The folder of caches. Local.
        key: 32 hexadecimal digits.
        description: What the examples are, for the manifest.
        count: Number of rows.
        row_bytes: Size of a row, or of its header.
        has_blocks: Whether rows differ in size.
    """

    where: Path
    key: str
    description: str
    count: int
    row_bytes: int
    has_blocks: bool

    @property
    def path(self) -> Path:
        """The folder of this cache."""
        return self.where / self.key

    def open(self) -> StoredRows | None:
        """Returns the rows, or None if the cache does not exist or is not whole.

        Raises:
            OSError: If it cannot be read.
        """
        if _whole(self.path) is None:
            return None
        with contextlib.suppress(OSError):  # The folder may be read-only.
            os.utime(self.path / _MANIFEST)  # when it was last used
        return opened(
            self.path, count=self.count, row_bytes=self.row_bytes, has_blocks=self.has_blocks
        )

    def make(self, fill: Callable[[FileSink], None], *, deadline_seconds: float) -> bool:
        """Fills the cache in one of all processes that call this; the others wait.

        Args:
            fill: Adds all rows.
            deadline_seconds: Longest wait for another process. Not negative.

        Returns:
            Whether this process filled it.

        Raises:
            OSError: If it cannot be written.
            TimeoutError: If another process has not filled it by the deadline.
        """
        filled = False

        def work() -> None:
            nonlocal filled
            if _whole(self.path) is None:
                self._fill(fill)
                filled = True

        try:
            do_once(
                WorkLock(str(self.path), silence_seconds=_SILENCE_SECONDS),
                is_done=lambda: _whole(self.path) is not None,
                work=work,
                what=f"the cache {self.path}",
                deadline_seconds=deadline_seconds,
            )
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise self._unwritable(error) from error
        return filled

    def require_writable(self) -> None:
        """Makes the folder of caches.

        Raises:
            OSError: If it cannot be made or written.
        """
        try:
            self.where.mkdir(parents=True, exist_ok=True)
            probe = self.where / f".{secrets.token_hex(8)}.partial"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise self._unwritable(error) from error

    def _fill(self, fill: Callable[[FileSink], None]) -> None:
        for stale in self.where.glob(f".{self.key}.*.partial"):
            shutil.rmtree(stale, ignore_errors=True)  # of a process that died
        if self.path.exists():
            announce(f"the cache {self.path} is damaged or incomplete; it is made again")
            shutil.rmtree(self.path)
        self._name_others()
        partial = self.where / f".{self.key}.{secrets.token_hex(8)}.partial"
        began = time.monotonic()
        try:
            partial.mkdir()
            with writing(partial, has_blocks=self.has_blocks) as sink:
                fill(sink)
            size = self._write_manifest(partial)
            _rename(partial, self.path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        announce(
            f"cached {self.count:,} examples in {self.path}: {megabytes(size)}, "
            f"{time.monotonic() - began:.1f} s"
        )

    def _write_manifest(self, folder: Path) -> int:
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        content: dict[str, Any] = {"key": self.key, "examples": self.description, "sizes": sizes}
        content["count"], content["made"] = self.count, time.strftime("%Y-%m-%d %H:%M:%S")
        text = json.dumps({**content, "sha256": _digest(content)}, indent=1)
        with (folder / _MANIFEST).open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return sum(sizes.values())

    def _name_others(self) -> None:
        """Names the other caches, of which some may be those of older states of the source."""
        found = []
        for path in sorted(self.where.iterdir()):
            content = _whole(path) if _KEY.fullmatch(path.name) else None
            if content is not None and path != self.path:
                used = time.strftime("%Y-%m-%d", time.localtime((path / _MANIFEST).stat().st_mtime))
                size = megabytes(sum(content["sizes"].values()))
                found.append(f"{path} ({size}, last used {used}, {content['examples']})")
        if found:
            announce(
                f"{self.where} has other caches, perhaps of earlier states of this source: "
                f"{'; '.join(found)}. Delete those that no program needs"
            )

    def _unwritable(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"the cache {self.path} could not be written: {reason(error)}. Nothing of it is left. "
            "Make room there, or pass another folder",
        )


def _whole(path: Path) -> dict[str, Any] | None:
    """Returns the manifest of a cache whose files are complete, else None."""
    try:
        content = json.loads((path / _MANIFEST).read_text("utf-8"))
        digest = content.pop("sha256")
        sizes = content["sizes"]
        if digest != _digest(content):
            return None
        if any((path / name).stat().st_size != size for name, size in sizes.items()):
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, AttributeError):
        return None
    return dict(content)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _rename(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError:
        # This process was stopped for so long that another one took over.
        if _whole(path) is None:
            raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
