"""What the word SOURCE of a data tool means."""

from __future__ import annotations

import argparse
import glob
import importlib.util
import re
from pathlib import Path
from typing import Any

from tfscale.cli.modules import search_current_folder

SYNTAX = """\
SOURCE is one of
  a folder with one subfolder of images for each class
  a folder that `tfscale data pack` wrote
  a file, or a pattern in quotes, of .parquet, .csv, .jsonl, .txt, .tfrecord or .array_record files
  a TFDS name, such as mnist or mnist:train
  MODULE:FUNCTION, such as mine:examples for examples() in mine.py, which returns what
  tfscale.data.input_pipeline takes as its source"""


def image_size(text: str) -> tuple[int, int]:
    """Takes `224` or `224x320`, height x width.

    Raises:
        argparse.ArgumentTypeError: If `text` is something else.
    """
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"must be SIZE or HEIGHTxWIDTH in pixels. Received: {text!r}. Example: 224x224"
        )
    return int(found[1]), int(found[2] or found[1])


def named_source(
    source: str, *, image_size: tuple[int, int] | None = None, target: str | None = None
) -> Any:
    """Returns what SOURCE means.

    Args:
        source: See `SYNTAX`.
        image_size: `(height, width)` of the images of a folder, or None.
        target: Column that the model learns, for Parquet and CSV, or None.

    Returns:
        What `input_pipeline` takes as `source`. A TFDS name is returned as it is.

    Raises:
        ValueError: If it means nothing, or the files or the function cannot be used.
        OSError: If files cannot be read.
        ImportError: If a package for the files is not installed.
    """
    from tfscale import data
    from tfscale.records.manifest import NAME
    from tfscale.verify.user_model import UserModel, WrongUsage

    kind = "images" if Path(source).is_dir() else _ending(source)
    if kind == "images" and Path(source, NAME).exists():
        kind = "packed"
    _refuse("image_size", image_size, source, is_used=kind == "images")
    _refuse("target", target, source, is_used=kind in (".parquet", ".csv"))
    match kind:
        case "packed":
            return data.shards(source)
        case "images":
            return data.image_folder(source, image_size=image_size)
        case ".parquet":
            return data.parquet(source, target=target)
        case ".csv":
            return data.csv(source, target=target)
        case ".jsonl":
            return data.json_lines(source)
        case ".txt":
            return data.text_lines(source)
        case ".tfrecord":
            return data.record_files(source)
        case ".array_record":
            return data.array_record(source)
    module, _, name = source.partition(":")
    if name.isidentifier() and _is_importable(module):
        try:
            return UserModel(source).call()
        except WrongUsage as error:
            raise ValueError(f"`SOURCE` {source!r}: {error}") from error
    try:
        data.tfds.find_builder(data.tfds.parse_name(source)[0])
    except (ValueError, ImportError) as error:
        raise type(error)(
            f"`SOURCE` {source!r} is no folder, no file of a known kind, and no MODULE:FUNCTION of "
            f"a module that can be imported. As a TFDS name: {error}"
        ) from error
    return source


_ENDINGS = (".parquet", ".csv", ".jsonl", ".txt", ".tfrecord", ".array_record")


def _ending(source: str) -> str | None:
    """Returns the ending of the files that are meant."""
    for path in (source, *glob.glob(source)):  # noqa: PTH207
        if path.endswith(_ENDINGS):
            return Path(path).suffix
    return None


def _is_importable(module: str) -> bool:
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    search_current_folder()
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _refuse(name: str, value: Any, source: str, *, is_used: bool) -> None:
    if value is not None and not is_used:
        use = {"image_size": "a folder of images", "target": "Parquet and CSV files"}[name]
        raise ValueError(
            f"`--{name}` is for {use}. Received: --{name}={value} with {source!r}. Omit it."
        )
