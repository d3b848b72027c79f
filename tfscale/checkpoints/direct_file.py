"""Writing a large file past the system's cache, where the system can.

A checkpoint is written and seldom read. Through the cache each byte is copied into a fresh page by
the processor that training needs (0.1 to 1 s of it a gigabyte here), and pushes a page of training
data out. Past the cache the disk takes it from one block of memory that is used again and again.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 8 * 2**20


class UncachedFile:
    """Writes a file sequentially in whole blocks, bypassing the system's page cache.

    A checkpoint is written and rarely read. With the cache, each byte is copied into a new page by
    a processor that training needs (0.1 to 1 s per gigabyte here), and evicts a page of training
    data. Without it, the disk reads from one reused block of memory. If the system or the file
    system does not support this (tmpfs, macOS), the file is written through the cache.

    Args:
        path: The file, which is truncated.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._direct = getattr(os, "O_DIRECT", 0)
        try:
            self._descriptor = os.open(path, flags | self._direct, 0o666)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            self._direct = 0
            self._descriptor = os.open(path, flags, 0o666)
        self._block = mmap.mmap(-1, BLOCK_BYTES)  # page-aligned, as direct I/O requires
        self._filled = 0

    def write(self, data: bytes | memoryview) -> int:
        """Writes bytes and returns their number.

        Raises:
            OSError: If the disk is full or fails.
        """
        data = memoryview(data)
        done = 0
        while done < len(data):
            part = data[done : done + BLOCK_BYTES - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            done += len(part)
            if self._filled == BLOCK_BYTES:
                self._flush()
        return done

    def finish(self) -> None:
        """Writes the last partial block and syncs the file to disk."""
        self._through_the_cache()
        self._flush()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file, finished or not."""
        os.close(self._descriptor)

    def _flush(self) -> None:
        with memoryview(self._block) as block:
            done = 0
            while done < self._filled:
                try:
                    done += os.write(self._descriptor, block[done : self._filled])
                except OSError as error:
                    if not self._direct or error.errno != errno.EINVAL:
                        raise
                    self._through_the_cache()  # some file systems reject direct I/O only here
        self._filled = 0

    def _through_the_cache(self) -> None:
        if self._direct:
            import fcntl  # POSIX only, like the flag

            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~self._direct)
            self._direct = 0


@contextlib.contextmanager
def uncached_file(path: Path) -> Iterator[UncachedFile]:
    """Opens a file for writing. It is on disk when the context ends without an error.

    Args:
        path: The file.
    """
    file = UncachedFile(path)
    try:
        yield file
        file.finish()
    finally:
        file.close()
