"""`tfscale data inspect`: what packed sets and record files contain, and whether it is intact."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfscale.cli.arguments import add_json_flag, count, count_or_zero
from tfscale.cli.errors import complain
from tfscale.data_tools.set_flags import (
    add_source_flags,
    complain_of_set,
    has_manifest,
    source_arguments,
    user_functions,
)

if TYPE_CHECKING:
    from tfscale.data_tools.inspection import Inspection
    from tfscale.records.manifest import Manifest
    from tfscale.records.processes import Say
    from tfscale.records.verification import FileState

SUMMARY = "show and verify packed sets and record files, and repair them"
_PROGRAM = "tfscale data inspect"
_DESCRIPTION = """\
DEST is the folder of a packed set, or files of records: TFRecord (uncompressed, GZIP or ZLIB) and
ArrayRecord.

Prints what the examples are, the first of them, and the size of every shard. Every file is read
completely. A shard of a packed set is compared with its manifest: size, hash, the checksum of every
record, their number, and its index. Files without a manifest have the checksums of their records
only. Each problem is one line on standard error, with its cure.
"""
_EPILOG = """\
examples:
  tfscale data inspect packed                          the set, and a verdict
  tfscale data inspect packed --html=packed.html       a page with pictures of the first examples
  tfscale data inspect packed --repair                 puts renamed shards back, writes lost indexes
  tfscale data inspect packed --repair --source=pets   makes lost shards again; packed from pets
  tfscale data inspect 'train-*.tfrecord' --json       files without a manifest, as JSON

exit status: 0 everything is intact, 1 something is damaged or missing, 2 wrong usage, or a file
cannot be read or written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the tool."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "dest", metavar="DEST", nargs="+", help="folder of a packed set; or files, or patterns"
    )
    parser.add_argument(
        "--examples",
        metavar="N",
        type=count_or_zero,
        default=5,
        help="examples to show (default: 5)",
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write one page: a new file, or an earlier page"
    )
    parser.add_argument(
        "--repair", action="store_true", help="repair the set, then print what it is now"
    )
    source = parser.add_argument_group(
        "what the set was packed from", "for shards whose content is lost, with --repair"
    )
    source.add_argument(
        "--source",
        metavar="SOURCE",
        help="what `tfscale data pack` took, unchanged, with the same flags; or another packed set "
        "of the same examples",
    )
    add_source_flags(source)
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        default=os.cpu_count() or 1,
        help="files to verify at a time (default: one for each processor)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Inspects, repairs if asked to, and prints what was found. Returns the exit status."""
    from tfscale.cli.progress import progress
    from tfscale.data_tools import inspect_page
    from tfscale.files import require_writable
    from tfscale.files.output_files import write_whole
    from tfscale.records.index import crc32c
    from tfscale.records.manifest import ManifestError
    from tfscale.report.page import refuse_other_files

    html: Path | None = arguments.html
    try:
        crc32c()
        if html is not None:
            refuse_other_files(html)
            require_writable(html)
        with progress(_PROGRAM) as say:
            found = _inspection(arguments, say)
        if html is not None:
            write_whole(html, inspect_page.render(found))
    except ManifestError as error:
        return complain_of_set(_PROGRAM, arguments.dest[0], error)
    except (ValueError, OSError, ImportError) as error:
        complain(_PROGRAM, error)
        return 2
    for row in found.damaged:
        complain(_PROGRAM, row.problem)
    print(json.dumps(_json(found), indent=1) if arguments.json else _text(found))
    return 1 if found.damaged else 0


def _inspection(arguments: argparse.Namespace, say: Say) -> Inspection:
    from tfscale.data_tools.inspection import of_files, of_set
    from tfscale.records.manifest import read_manifest
    from tfscale.records.paths import record_paths
    from tfscale.records.verification import verified

    if arguments.source is not None and not arguments.repair:
        raise ValueError(
            f"`--source` is for --repair. Received: --source={arguments.source}. Add --repair, or "
            "omit it."
        )
    folder, *more = arguments.dest
    if more or not Path(folder).is_dir():
        if arguments.repair:
            raise ValueError(
                "`--repair` needs the folder of one packed set. Received: "
                f"{' '.join(arguments.dest)}. Without a manifest it is unknown what the files "
                "should contain."
            )
        paths = record_paths(arguments.dest)
        return of_files(paths, arguments.examples, jobs=arguments.jobs, say=say)
    manifest = read_manifest(folder)
    states = verified(folder, manifest, jobs=arguments.jobs, say=say)
    if arguments.repair:
        states = _repaired(folder, manifest, states, arguments, say)
    return of_set(folder, manifest, states, arguments.examples)


def _repaired(
    folder: str,
    manifest: Manifest,
    states: list[FileState],
    arguments: argparse.Namespace,
    say: Say,
) -> list[FileState]:
    """Repairs what can be repaired. Returns the states afterwards."""
    from tfscale.records.placing import put_back, write_lost_indexes
    from tfscale.records.verification import GOOD, REMADE, FileState, verified

    if moved := put_back(folder, states):
        for shard in moved:
            say(f"{shard} is back in its place")
        states = verified(folder, manifest, jobs=arguments.jobs, say=say)
    written = write_lost_indexes(folder, states)
    for shard in written:
        say(f"{shard} has its index again")
    lost = [state.file for state in states if state.state in REMADE]
    if lost and arguments.source is not None:
        _remake(folder, manifest, lost, arguments, say)
        written += lost
    return [FileState(state.file, GOOD) if state.file in written else state for state in states]


def _remake(
    folder: str, manifest: Manifest, lost: list[str], arguments: argparse.Namespace, say: Say
) -> None:
    """Makes shards again from the source that the flags name."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # it computes nothing

    from tfscale.data.packing.converting import stored_contents
    from tfscale.data.packing.plan import contents
    from tfscale.data.packing.remaking import SourceChangedError, remake

    if has_manifest(arguments.source) and not (arguments.filter or arguments.map):
        _, content = stored_contents(arguments.source, jobs=arguments.jobs, say=say)
    else:
        with user_functions(arguments):
            content = contents(**source_arguments(arguments))
    try:
        remake(folder, manifest, lost, content, say=say)
    except SourceChangedError as error:
        raise SourceChangedError(f"--source={arguments.source}: {error}") from error


_MOST_LISTED = 24
_BAR = 24
_MOST_PARTS = 12


def _text(found: Inspection) -> str:
    sizes = [row.size or 0 for row in found.files]
    lines = [f"{found.name}: {len(sizes):,} {_files(len(sizes))}, {_mib(sum(sizes))}"]
    lines += [f"{name}: {_shown(value)}" for name, value in found.facts.items() if value]
    if found.features:
        lines += ["", "features:"]
        lines += _columns([[f"  {name}", kind, how] for name, kind, how in found.features])
    lines += ["", "files:", *_file_lines(found, sizes)]
    if found.examples:
        lines += ["", "first examples:"]
    for number, example in enumerate(found.examples):
        parts = [f"{value.name}: {value.text}" for value in example[:_MOST_PARTS]]
        if len(example) > _MOST_PARTS:
            parts.append(f"… ({len(example):,} parts)")
        lines.append(f"  {number}: {'; '.join(parts)}")
    good = sum(not row.problem for row in found.files)
    lines += ["", f"verified: {good:,} of {len(sizes):,} {_files(len(sizes))} intact"]
    return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """Returns a line in which names cannot move the cursor, and can be encoded."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _file_lines(found: Inspection, sizes: list[int]) -> list[str]:
    largest = max(sizes, default=0) or 1
    rows = found.files if len(sizes) <= _MOST_LISTED else found.damaged
    lines = _columns(
        [
            [
                f"  {row.file}",
                "" if row.records is None else f"{row.records:,} examples",
                _mib(row.size or 0),
                "█" * max(1 if row.size else 0, round(_BAR * (row.size or 0) / largest)),
                row.state,
            ]
            for row in rows[:_MOST_LISTED]
        ]
    )
    if len(sizes) > _MOST_LISTED:
        mean = sum(sizes) / len(sizes)
        lines.insert(
            0,
            f"  smallest {_mib(min(sizes))}, mean {_mib(mean)}, largest {_mib(largest)}; the first "
            f"{_MOST_LISTED} with a problem:",
        )
    return lines


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _files(number: int) -> str:
    return "file" if number == 1 else "files"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.2f} MiB" if size >= 10_000 else f"{size:,.0f} bytes"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _json(found: Inspection) -> dict[str, Any]:
    return {
        "name": found.name,
        "intact": not found.damaged,
        "facts": found.facts,
        "features": [
            {"name": name, "type": kind, "storage": how} for name, kind, how in found.features
        ],
        "files": [dataclasses.asdict(row) for row in found.files],
        "examples": [{value.name: value.text for value in example} for example in found.examples],
    }
