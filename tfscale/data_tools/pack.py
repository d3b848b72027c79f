"""`tfscale data pack`: examples of any source in a few large, checksummed files."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tfscale.cli.arguments import add_json_flag, count
from tfscale.cli.errors import complain
from tfscale.data_tools.named_source import SYNTAX
from tfscale.data_tools.set_flags import (
    add_layout_flags,
    add_source_flags,
    described,
    layout_arguments,
    source_arguments,
    user_functions,
)

if TYPE_CHECKING:
    from tfscale.records.manifest import Manifest

SUMMARY = "pack any source into balanced, checksummed shards"
_PROGRAM = "tfscale data pack"
_DESCRIPTION = f"""\
Writes the examples of SOURCE into the folder DEST: shards of about equal size, and a manifest with
types, counts, classes and checksums. tfscale.data.shards reads it. Records are tf.train.Example.

{SYNTAX}

Images of a folder are packed as files, not as pixels. Interrupted, by Ctrl-C, a kill or a full
disk, DEST has no manifest, and the same command continues: it ends with the same bytes. A DEST that
contains another set is refused.
"""
_EPILOG = """\
examples:
  tfscale data pack pets packed                         a folder of images, shards of 256 MiB
  tfscale data pack mnist:train packed --split=train    a TFDS split; files train-00000.tfrecord...
  tfscale data pack 'logs-*.jsonl' packed --num_shards=8 --compression=GZIP
  tfscale data pack mine:examples packed --container=array_record --map=mine:resized
                                                        compressed, with random access

exit status: 0 packed, or complete already; 2 wrong usage, or a file cannot be read or written; 130
interrupted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the tool."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="SOURCE", help="the examples; see above")
    parser.add_argument("folder", metavar="DEST", type=Path, help="folder of the set, created")
    add_layout_flags(parser, default_shards="256 MiB")
    parser.add_argument("--split", metavar="NAME", help="names the files and the set: train, test")
    add_source_flags(parser)
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        help="shards to write at a time (default: one for each processor)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Packs and prints what was written. Returns the exit status."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # packing computes nothing
    try:
        manifest = _packed(arguments)
    except (ValueError, OSError, ImportError) as error:
        complain(_PROGRAM, error)
        return 2
    except KeyboardInterrupt:
        complain(_PROGRAM, "interrupted. The same command continues.")
        raise
    print(described(arguments.folder, manifest, as_json=arguments.json))
    return 0


def _packed(arguments: argparse.Namespace) -> Manifest:
    from tfscale.data import pack

    with user_functions(arguments):
        return pack(
            folder=arguments.folder,
            split=arguments.split,
            jobs=arguments.jobs,
            description=arguments.source,
            **layout_arguments(arguments),
            **source_arguments(arguments),
        )
