"""`tfscale data convert`: other containers, compressions and shards for the same records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tfscale.cli.arguments import add_json_flag, count
from tfscale.cli.errors import complain
from tfscale.data_tools.set_flags import (
    add_layout_flags,
    complain_of_set,
    described,
    layout_arguments,
)

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
    add_layout_flags(parser, default_shards="as many shards as FROM has")
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

    source = arguments.source
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # converting computes nothing
    try:
        manifest = convert(
            source[0] if len(source) == 1 else source,
            arguments.folder,
            jobs=arguments.jobs,
            **layout_arguments(arguments),
        )
    except ManifestError as error:
        return complain_of_set(_PROGRAM, source[0], error)
    except RecordFileError as error:
        complain(_PROGRAM, error)
        return 1
    except (ValueError, OSError, ImportError) as error:
        complain(_PROGRAM, error)
        return 2
    except KeyboardInterrupt:
        complain(_PROGRAM, "interrupted. The same command continues.")
        raise
    print(described(arguments.folder, manifest, as_json=arguments.json))
    return 0
