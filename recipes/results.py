"""The files of a run: the trained model and the results."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfscale.files import reason, require_writable, whole_files
from tfscale.report import REPORT_FILE, RUN_FILE, RunRecord, render, to_json
from tfscale.sweep import report_trial

MODEL_FILE = "model.keras"
SUMMARY_FILE = "summary.json"


def make_writable(path: str, *names: str) -> None:
    """Creates the folder if needed and checks, before training, that it can be written.

    Args:
        path: A folder, local or of a file system that `tf.io.gfile` knows.
        *names: Files that `write` will write in addition to those of every recipe.

    Raises:
        ValueError: If nothing can be written there, or one of the files is a link or a folder.
    """
    try:
        tf.io.gfile.makedirs(path)
        for name in (MODEL_FILE, SUMMARY_FILE, RUN_FILE, REPORT_FILE, *names):
            require_writable(f"{path}/{name}")
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            "`--model_dir` must be a folder that this process can write to. Received: "
            f"--model_dir={path} ({_reason(error)}). Choose another folder."
        ) from error


def make_file_writable(path: str, *, flag: str) -> None:
    """Creates the folder of a file and checks, before training, that the file can be written.

    Args:
        path: A file, local or of a file system that `tf.io.gfile` knows.
        flag: The flag that gives the path.

    Raises:
        ValueError: If it is a folder or a link, or its folder cannot be written.
    """
    try:
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")  # noqa: PTH120  (Path: gs:/a of gs://a)
        require_writable(path)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(
            f"`--{flag}` must be a file that this process can write. Received: --{flag}={path} "
            f"({_reason(error)}). Choose another file."
        ) from error


def predictor(model: keras.Model) -> keras.Model:
    """Returns a copy to save and predict with: only the weights, without optimizer and loss.

    The optimizer state of Adam is twice as large as the weights, and its schedule may be a class of
    tfscale that plain Keras does not know. Without them the file loads in plain Keras.

    Args:
        model: The trained model.
    """
    # Not `clone_model`: Keras compiles the clone like the original.
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def write(
    folder: str,
    model: keras.Model | None,
    summary: dict[str, Any],
    record: RunRecord,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes all files of a run in one step: readers never see a part of them.

    The results are reported to `tfscale sweep` too, if this run is a trial of it.

    Args:
        folder: A folder that `make_writable` has checked.
        model: The trained model, saved as one `.keras` file; None if there is no single model.
        summary: The results, as JSON values.
        record: The run, for the report and for programs that read `run.json`.
        texts: Texts of more files, by name.

    Raises:
        OSError: If they cannot be written. Earlier files are unchanged.
    """
    written = {
        SUMMARY_FILE: json.dumps(summary, indent=2, default=float),
        RUN_FILE: to_json(record),
        REPORT_FILE: render(record),
        **(texts or {}),
    }
    names = [*([] if model is None else [MODEL_FILE]), *written]
    try:
        with tempfile.TemporaryDirectory() as temporary:
            local = pathlib.Path(temporary) / MODEL_FILE
            if model is not None:  # Keras writes to a local disk; the folder may be in a bucket.
                model.save(local)
            with whole_files(*(f"{folder}/{name}" for name in names)) as files:
                for name, file in zip(names, files, strict=True):
                    if name in written:
                        file.write(written[name].encode("utf-8", "backslashreplace"))
                    else:
                        with local.open("rb") as saved:
                            shutil.copyfileobj(saved, file)
    except OSError as error:
        raise OSError(
            f"The results could not be written to {folder}: {_reason(error)}. Make room there and "
            "in the folder of temporary files, and train again."
        ) from error
    report_trial(record.results)


def _reason(error: OSError | tf.errors.OpError) -> str:
    path = getattr(error, "filename", None)
    return reason(error) if path is None else f"{path}: {reason(error)}"
