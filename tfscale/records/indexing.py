"""Scans record files and writes their indexes.

Other processes only scan; this one writes. So an index is complete or does not exist.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tfscale.records.index import RecordFileError, RecordIndex, index_path, scanned, write_index
from tfscale.records.processes import Say, each_file


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan of one file found.

    Attributes:
        source: The record file.
        path: Its index.
        index: The content of the index; None if the scan failed.
        outcome: "written", "replaced" or "unchanged" for the index; "failed" for the scan.
        error: Why it failed.
    """

    source: str
    path: Path
    index: RecordIndex | None
    outcome: str
    error: RecordFileError | OSError | None = None


def indexed_files(
    sources: list[str],
    index_dir: str | os.PathLike[str] | None = None,
    *,
    jobs: int = 1,
    say: Say,
) -> Generator[Scan, None, None]:
    """Scans record files and writes their indexes. A file that cannot be scanned keeps its index.

    Args:
        sources: The record files.
        index_dir: See `index_path`.
        jobs: Processes that scan. 1 scans in this process. Positive.
        say: Called with a line of progress every few seconds.

    Yields:
        What each scan found, as soon as it is complete and its index is on disk.

    Raises:
        OSError: If an index cannot be written.
        ImportError: If the package that computes checksums is not installed.
    """
    found = each_file(scanned, sources, jobs=jobs, say=say, done="indexed")
    with contextlib.closing(found):
        for source, result in found:
            path = index_path(source, index_dir)
            if isinstance(result, RecordIndex):
                yield Scan(source, path, result, _saved(path, result))
            else:
                yield Scan(source, path, None, "failed", result)


def _saved(path: Path, index: RecordIndex) -> str:
    """Writes an index, unless the same one is there. Returns what happened to it."""
    try:
        before = path.read_bytes()
    except OSError:
        before = None
    if before == index.to_bytes():
        return "unchanged"
    write_index(path, index)
    return "written" if before is None else "replaced"
