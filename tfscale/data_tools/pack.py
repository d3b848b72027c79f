"""`tfscale data pack`: examples of any source in a few large, checksummed files."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from tfscale.cli.arguments import add_json_flag, count, function_name
from tfscale.cli.errors import complain
from tfscale.data_tools.named_source import SYNTAX, image_size, named_source

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
    parser.add_argument(
        "--container",
        choices=("tfrecord", "array_record"),
        default="tfrecord",
        help="format of the shards (default: tfrecord)",
    )
    parser.add_argument(
        "--compression",
        choices=("none", "GZIP", "ZLIB", "zstd"),
        help="GZIP or ZLIB for tfrecord, which then has no random access; zstd for array_record "
        "(default: none for tfrecord, zstd for array_record)",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--shard_bytes",
        metavar="BYTES",
        type=count,
        help="about how many bytes of records a shard has, before compression (default: 256 MiB)",
    )
    sizes.add_argument(
        "--num_shards",
        metavar="N",
        type=count,
        help="number of shards, of equal numbers of examples",
    )
    parser.add_argument("--split", metavar="NAME", help="names the files and the set: train, test")
    parser.add_argument(
        "--filter",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="maps a batch of n examples to bool [n], which examples to pack",
    )
    parser.add_argument(
        "--map",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="maps a batch to what is packed, with as many rows",
    )
    parser.add_argument(
        "--version",
        metavar="TEXT",
        help="change it with --filter and --map (default: a hash of the functions)",
    )
    parser.add_argument(
        "--image_size",
        metavar="SIZE",
        type=image_size,
        help="224 or 224x320 (height x width): images of a folder are resized when they are read",
    )
    parser.add_argument(
        "--target", metavar="COLUMN", help="the column to learn, of Parquet or CSV files"
    )
    parser.add_argument(
        "--data_dir", metavar="FOLDER", type=Path, help="folder of prepared TFDS data sets"
    )
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
    size = sum(shard.bytes for shard in manifest.shards)
    found = {
        "folder": str(arguments.folder),
        "examples": manifest.num_examples,
        "shards": len(manifest.shards),
        "bytes": size,
        "container": manifest.container,
        "compression": manifest.compression,
    }
    shards = f"{len(manifest.shards):,} shard{'' if len(manifest.shards) == 1 else 's'}"
    print(
        json.dumps(found, indent=1)
        if arguments.json
        else f"{arguments.folder}: {manifest.num_examples:,} examples in {shards}, "
        f"{size / 2**20:,.2f} MiB, {manifest.container} {manifest.compression or 'uncompressed'}"
    )
    return 0


def _packed(arguments: argparse.Namespace) -> Any:
    from tfscale.data import pack
    from tfscale.verify.user_model import WrongUsage, imported_function

    try:
        keep = arguments.filter and imported_function(arguments.filter)
        preprocess = arguments.map and imported_function(arguments.map)
    except WrongUsage as error:
        raise ValueError(str(error)) from error
    return pack(
        named_source(arguments.source, image_size=arguments.image_size, target=arguments.target),
        arguments.folder,
        container=arguments.container,
        compression={None: "auto", "none": None}.get(arguments.compression, arguments.compression),
        num_shards=arguments.num_shards,
        shard_bytes=arguments.shard_bytes,
        split=arguments.split,
        keep=keep,
        preprocess=preprocess,
        version=arguments.version,
        jobs=arguments.jobs,
        data_dir=arguments.data_dir,
        description=arguments.source,
    )
