"""`tfscale data index`: gives TFRecord files random access. Nothing here imports TensorFlow."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from tfscale.cli.arguments import add_json_flag, count
from tfscale.cli.errors import complain

SUMMARY = "write the index of TFRecord files"
_DESCRIPTION = """\
Runs without TensorFlow and without a GPU, for instance on the host that made the files.

A TFRecord file has no table of contents. This scans each file once, checks every checksum, and
writes FILE.tfindex: length and checksum of every record, 12 bytes for each. With it,
tfscale.data.record_files reads any record directly and refuses one that changed after the scan.

record_files builds missing indexes by itself, in one process, and before the first step. This
command builds them beforehand, with several processes, and again after files were replaced. A file
that is damaged, compressed or no TFRecord file is reported, and the others are indexed. Ctrl-C
keeps the indexes that are complete and leaves no part of another.
"""
_EPILOG = """\
examples:
  tfscale data index 'train-*.tfrecord'                quotes: the pattern is sorted by name
  tfscale data index 'train-*.tfrecord' --jobs=8       8 files at a time, on fast disks
  tfscale data index /data/*.tfrecord --index_dir=idx  for files in a folder that is read-only;
                                                       then record_files(..., index_dir="idx")
  tfscale data index 'train-*.tfrecord' --json         the same as JSON, for programs

exit status: 0 all files have an index, 1 a file is damaged, compressed, unreadable or no TFRecord
file, 2 wrong usage or an index cannot be written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the tool."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("files", metavar="FILES", nargs="+", help="TFRecord files, or patterns")
    parser.add_argument(
        "--index_dir",
        metavar="FOLDER",
        type=Path,
        help="folder of the indexes, created if needed (default: beside each file)",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="files to scan at a time (default: 1)"
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Indexes the files and prints what was found. Returns the exit status."""
    from tfscale.cli.progress import progress
    from tfscale.records.index import crc32c
    from tfscale.records.indexing import indexed_files
    from tfscale.records.paths import record_paths

    program = "tfscale data index"
    rows: dict[str, dict[str, Any]] = {}
    try:
        crc32c()
        paths = record_paths(arguments.files)
        with (
            progress(program) as say,
            contextlib.closing(
                indexed_files(paths, arguments.index_dir, jobs=arguments.jobs, say=say)
            ) as scans,
        ):
            for scan in scans:
                if scan.error is not None:
                    complain(program, scan.error)
                rows[scan.source] = {
                    "file": scan.source,
                    "index": str(scan.path),
                    "outcome": scan.outcome,
                    "records": None if scan.index is None else len(scan.index.lengths),
                    "bytes": None if scan.index is None else scan.index.source_size,
                    "error": None if scan.error is None else str(scan.error),
                }
    except (ValueError, OSError, ImportError) as error:
        complain(program, error)
        return 2
    ordered = [rows[path] for path in paths]
    print(json.dumps({"files": ordered}, indent=1) if arguments.json else _text(ordered))
    return 1 if any(row["error"] for row in ordered) else 0


def _text(rows: list[dict[str, Any]]) -> str:
    good = [row for row in rows if not row["error"]]
    lines = [
        f"{row['file']}: {_amount(row['records'], row['bytes'])}, index {row['outcome']}: "
        f"{row['index']}"
        for row in good
    ]
    total = _amount(sum(row["records"] for row in good), sum(row["bytes"] for row in good))
    failed = f"; {len(rows) - len(good)} without an index" if len(good) < len(rows) else ""
    return "\n".join([*lines, f"{len(good)} of {len(rows)} files indexed, {total}{failed}"])


def _amount(records: int, size: int) -> str:
    return f"{records:,} record{'' if records == 1 else 's'}, {size / 2**20:,.1f} MiB"
