"""`tfscale data convert`: other containers, compressions and shards for the same records."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tfscale.cli.arguments import add_json_flag, count
from tfscale.cli.errors import complain

SUMMARY = "write records into another container or compression, or other shards"
_PROGRAM = "tfscale data convert"
_DESCRIPTION = """\
Writes the records of FROM as a packed set into the folder TO. The bytes of every record and their
order stay; every checksum is compared. FROM is the folder of a packed set, or files of records:
TFRecord (uncompressed, GZIP or ZLIB) or ArrayRecord.

Interrupted, TO has no manifest, and the same command continues with the shards that are missing.
Files without a manifest are read twice, first to count and verify their records.
"""
_EPILOG = """\
examples:
  tfscale data convert packed zipped --container=array_record     compressed, with random access
  tfscale data convert packed gzip --compression=GZIP             for tf.data.TFRecordDataset
  tfscale data convert packed larger --shard_bytes=1000000000     shards of 1 GB
  tfscale data convert 'train-*.tfrecord' set --num_shards=8      files without a manifest

exit status: 0 written, or complete already; 1 FROM is damaged; 2 wrong usage, or a file cannot be
read or written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the tool."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "source",
        metavar="FROM",
        nargs="+",
        help="folder of a packed set; or files, or patterns, of one container and compression",
    )
    parser.add_argument("folder", metavar="TO", type=Path, help="folder of the new set")
    parser.add_argument(
        "--container",
        choices=("tfrecord", "array_record"),
        default="tfrecord",
        help="format of the shards (default: tfrecord)",
    )
    parser.add_argument(
        "--compression",
        choices=("none", "GZIP", "ZLIB", "zstd"),
        help="GZIP or ZLIB for tfrecord, zstd for array_record (default: none for tfrecord, zstd "
        "for array_record)",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--num_shards",
        metavar="N",
        type=count,
        help="number of shards, of equal numbers of examples (default: as many as FROM has)",
    )
    sizes.add_argument(
        "--shard_bytes",
        metavar="BYTES",
        type=count,
        help="bytes of records in a shard, before compression",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        default=os.cpu_count() or 1,
        help="shards to write at a time (default: one for each processor)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Converts and prints what was written. Returns the exit status."""
    from tfscale.data.packing.converting import convert
    from tfscale.records.index import RecordFileError
    from tfscale.records.manifest import ManifestError

    compression = {None: "auto", "none": None}.get(arguments.compression, arguments.compression)
    source = arguments.source
    try:
        manifest = convert(
            source[0] if len(source) == 1 else source,
            arguments.folder,
            container=arguments.container,
            compression=compression,
            num_shards=arguments.num_shards,
            shard_bytes=arguments.shard_bytes,
            jobs=arguments.jobs,
        )
    except (RecordFileError, ManifestError) as error:
        complain(_PROGRAM, error)
        return 1
    except (ValueError, OSError, ImportError) as error:
        complain(_PROGRAM, error)
        return 2
    size = sum(shard.bytes for shard in manifest.shards)
    found = {
        "folder": str(arguments.folder),
        "examples": manifest.num_examples,
        "shards": len(manifest.shards),
        "bytes": size,
        "container": manifest.container,
        "compression": manifest.compression,
    }
    text = (
        f"{arguments.folder}: {manifest.num_examples:,} examples in {len(manifest.shards):,} "
        f"shard{'' if len(manifest.shards) == 1 else 's'}, {size / 2**20:,.2f} MiB, "
        f"{manifest.container} {manifest.compression or 'uncompressed'}"
    )
    print(json.dumps(found, indent=1) if arguments.json else text)
    return 0
