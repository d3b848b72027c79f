"""Flags and output that the tools which write packed sets share."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfscale.cli.arguments import count, function_name
from tfscale.cli.errors import complain
from tfscale.data_tools.named_source import image_size, named_source

if TYPE_CHECKING:
    from tfscale.records.manifest import Manifest


def add_layout_flags(parser: argparse.ArgumentParser, *, default_shards: str) -> None:
    """Adds the flags that say how shards are written: see `layout_of`.

    Args:
        parser: The tool's parser.
        default_shards: What happens without `--shard_bytes` and `--num_shards`.
    """
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
        help="about how many bytes of records a shard has, before compression (default: "
        f"{default_shards})",
    )
    sizes.add_argument(
        "--num_shards",
        metavar="N",
        type=count,
        help="number of shards, of equal numbers of examples",
    )


def layout_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `pack` that the flags of `add_layout_flags` say."""
    given = arguments.compression
    return {
        "container": arguments.container,
        "compression": {None: "auto", "none": None}.get(given, given),
        "num_shards": arguments.num_shards,
        "shard_bytes": arguments.shard_bytes,
    }


def add_source_flags(parser: Any) -> None:
    """Adds the flags that say what is done with SOURCE: see `source_arguments`."""
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


def source_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `pack` that `source` and the flags of `add_source_flags` say.

    Raises:
        ValueError: If the source or a function cannot be used.
        OSError: If files cannot be read.
        ImportError: If a package for the files is not installed.
    """
    from tfscale.verify.user_model import WrongUsage, imported_function

    try:
        keep = arguments.filter and imported_function(arguments.filter)
        preprocess = arguments.map and imported_function(arguments.map)
    except WrongUsage as error:
        raise ValueError(str(error)) from error
    source = named_source(
        arguments.source, image_size=arguments.image_size, target=arguments.target
    )
    return {
        "source": source,
        "keep": keep,
        "preprocess": preprocess,
        "version": arguments.version,
        "data_dir": arguments.data_dir,
    }


@contextlib.contextmanager
def user_functions(arguments: argparse.Namespace) -> Iterator[None]:
    """Raises errors of the functions of `--filter` and `--map` in one line.

    Raises:
        ValueError: If one of them, or the check of what it returns, has raised.
    """
    flags = {"--filter": arguments.filter, "--map": arguments.map}
    given = [f"{flag}={name}" for flag, name in flags.items() if name]
    with traced_functions(" ".join(given) or arguments.source):
        yield


@contextlib.contextmanager
def traced_functions(name: str) -> Iterator[None]:
    """Raises errors of traced functions of the user in one line.

    Args:
        name: What the line begins with.

    Raises:
        ValueError: If one of them, or the check of what it returns, has raised.
    """
    from tfscale.verify.user_model import in_one_line

    try:
        yield
    except Exception as error:
        if str(error).startswith("in user code:"):
            raise ValueError(f"{name}: {in_one_line(error)}") from error
        raise


def has_manifest(folder: str) -> bool:
    """Returns whether a folder has the manifest of a packed set, intact or not."""
    from tfscale.records.manifest import NAME

    return Path(folder, NAME).exists()


def complain_of_set(program: str, folder: str, error: Exception) -> int:
    """Prints an error about a manifest. Returns the exit status.

    Args:
        program: See `complain`.
        folder: The folder that should be a packed set.
        error: What reading its manifest raised.

    Returns:
        1 if the manifest is damaged, 2 if the folder has none.
    """
    if has_manifest(folder):
        complain(program, error)
        return 1
    pattern = os.path.join(folder, "*")  # noqa: PTH118
    complain(program, f"{error} For record files without a manifest pass {pattern!r}.")
    return 2


def described(folder: Path, manifest: Manifest, *, as_json: bool) -> str:
    """Returns what a tool prints about a set that it has written."""
    size = sum(shard.bytes for shard in manifest.shards)
    found = {
        "folder": str(folder),
        "examples": manifest.num_examples,
        "shards": len(manifest.shards),
        "bytes": size,
        "container": manifest.container,
        "compression": manifest.compression,
    }
    if as_json:
        return json.dumps(found, indent=1)
    shards = f"{len(manifest.shards):,} shard{'' if len(manifest.shards) == 1 else 's'}"
    return (
        f"{folder}: {manifest.num_examples:,} examples in {shards}, {size / 2**20:,.2f} MiB, "
        f"{manifest.container} {manifest.compression or 'uncompressed'}"
    )
