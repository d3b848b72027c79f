"""What a recipe leaves behind: the trained model, and what it measured."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfscale.inspect.report.json import RUN_FILE, to_json
from tfscale.inspect.report.page import REPORT_FILE, render
from tfscale.inspect.report.record import RunRecord
from tfscale.presence import kind_of

MODEL_FILE = "model.keras"
SUMMARY_FILE = "summary.json"


def make_writable(path: str) -> None:
    """Makes the folder if need be, and writes to it: before training is the time to find out.

    Args:
        path: A folder, local or of a file system that `tf.io.gfile` knows.

    Raises:
        ValueError: If nothing can be written there.
    """
    try:
        _probe(path)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            "`--model_dir` must be a folder that this process can write to. Received: "
            f"--model_dir={path} ({_reason(error)}). Name another folder."
        ) from error


def make_file_writable(path: str, *, flag: str) -> None:
    """Does the same for the folder of a file that is to be written later.

    Args:
        path: A file, local or of a file system that `tf.io.gfile` knows.
        flag: The flag that names it.

    Raises:
        ValueError: If it is a folder, or nothing can be written next to it.
    """
    try:
        if kind_of(path) == "folder":
            raise IsADirectoryError("It is a folder")
        _probe(os.path.dirname(path) or ".")  # noqa: PTH120  (Path makes gs:/a of gs://a)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            f"`--{flag}` must be a file that this process can write. Received: --{flag}={path} "
            f"({_reason(error)}). Name another file."
        ) from error


def write(
    folder: str,
    model: keras.Model | None,
    summary: dict[str, Any],
    record: RunRecord,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes all that a run leaves; under their names only once all are there in full.

    Args:
        folder: A folder that `make_writable` has seen.
        model: The trained model, saved as one `.keras` file; None where there is no one model.
        summary: What was measured; JSON values.
        record: The run, for the report and for programs that read `run.json`.
        texts: More files: their texts by their names.

    Raises:
        OSError: If they cannot be written. What the folder held before is still there.
    """
    written = {
        SUMMARY_FILE: json.dumps(summary, indent=2, default=float),
        RUN_FILE: to_json(record),
        REPORT_FILE: render(record),
        **(texts or {}),
    }
    names = [*([] if model is None else [MODEL_FILE]), *written]
    partial = {f"{folder}/{name}": f"{folder}/{name}.partial" for name in names}
    try:
        with tempfile.TemporaryDirectory() as temporary:
            local = pathlib.Path(temporary)
            if model is not None:  # Keras writes to a local disk; the folder may be in a bucket.
                model.save(local / MODEL_FILE)
            for name, text in written.items():
                (local / name).write_text(text, encoding="utf-8")
            for final, place in partial.items():
                name = final.rpartition("/")[2]
                tf.io.gfile.copy(str(local / name), place, overwrite=True)
        for final, place in partial.items():
            tf.io.gfile.rename(place, final, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        for place in partial.values():
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.remove(place)
        raise OSError(
            f"The results could not be written to {folder}: {_reason(error)}. Make room there and "
            "in the folder of temporary files, and train again."
        ) from error


def _probe(folder: str) -> None:
    probe = f"{folder}/.writable-{os.getpid()}"
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(probe, "w") as file:
        file.write("written and read by nobody")
    tf.io.gfile.remove(probe)


def _reason(error: OSError | tf.errors.OpError) -> str:
    return str(error.message if isinstance(error, tf.errors.OpError) else error)
