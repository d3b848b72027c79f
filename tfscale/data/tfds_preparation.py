"""Prepares a TFDS dataset once per file system, for any number of tasks.

    builder = tfds.builder("digits", data_dir="gs://bucket/data")
    prepare(builder, is_preparer=True)  # in every task

TFDS writes into a folder with a random name and renames it at the end. On local and network file
systems the rename is atomic, so two tasks that prepare at the same time waste time but cause no
damage. On an object store it is not atomic, so there the work lock decides, and files are counted.
"""

from __future__ import annotations

import os
from typing import Any

from absl import logging

from tfscale.data.work_lock import WorkLock, do_once
from tfscale.files.existence import kind_of, names_in


def prepare(
    builder: Any,
    *,
    is_preparer: bool,
    deadline_seconds: float = 600.0,
    silence_seconds: float = 30.0,
    download_config: Any = None,
) -> None:
    """Prepares a TFDS dataset in exactly one task per file system, while the others wait.

    All tasks may pass `is_preparer=True`. The first one prepares the dataset, and if it dies
    another one takes over. This works whether or not the tasks share a file system. On return
    `builder.info` contains the splits.

    Args:
        builder: A `tfds.core.DatasetBuilder`.
        is_preparer: Whether this task may prepare the dataset. If False it only waits, for instance
            because it has no write permission.
        deadline_seconds: Longest wait for another task. Not negative. Preparation in this task has
            no deadline, so allow more time than download and writing take.
        silence_seconds: A preparing task without a sign of life for so long counts as dead.
            Positive, the same in all tasks.
        download_config: A `tfds.download.DownloadConfig`. By default TFDS's copies on
            gs://tfds-data are not used, so that a bundled dataset needs no network.

    Raises:
        TimeoutError: If another task has not finished by the deadline.
        FileNotFoundError: If files are missing in the prepared folder.
        OSError: If the storage cannot be queried.
        ValueError: If `deadline_seconds` is negative or `silence_seconds` not positive.
    """
    if not deadline_seconds >= 0:
        raise ValueError(
            "`deadline_seconds` must not be negative. Received: "
            f"deadline_seconds={deadline_seconds!r}. Pass seconds, for instance 600.0."
        )
    path = os.fspath(builder.data_path)
    lock = WorkLock(path, silence_seconds=silence_seconds)
    config = download_config or tfds_library().download.DownloadConfig(try_download_gcs=False)
    do_once(
        lock,
        is_done=lambda: kind_of(path) is not None,
        work=lambda: _generate(builder, path, config),
        what=f"{builder.info.full_name} in {path}",
        deadline_seconds=deadline_seconds,
        may_work=is_preparer,
    )
    # A builder that was made before the files existed has no splits.
    builder.info.read_from_directory(path)
    _check_complete(builder, path)


def tfds_library() -> Any:
    """Returns the module `tensorflow_datasets`, an extra that only TFDS datasets need.

    Raises:
        ImportError: If it, or its undeclared dependency `importlib_resources`, is not installed.
    """
    try:
        import importlib_resources  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"TFDS datasets need {error.name}, which is not installed. "
            'Install it with: pip install "tfscale[recipes]"'
        ) from error
    return tensorflow_datasets


def _generate(builder: Any, path: str, config: Any) -> None:
    if kind_of(path) is not None:
        return  # Another task finished between the check and acquiring the lock.
    logging.info("Preparing %s in %s.", builder.info.full_name, path)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:
        # A task that was suspended until another took over finds the folder in place.
        if kind_of(path) is None:
            raise
        logging.warning("Another task prepared %s meanwhile: %s", path, error)


def _check_complete(builder: Any, path: str) -> None:
    present = set(names_in(path) or ())
    wanted = {name for split in builder.info.splits.values() for name in split.filenames}
    if missing := sorted(wanted - present):
        raise FileNotFoundError(
            f"The prepared dataset {path} lacks {len(missing)} of its {len(wanted)} files, for "
            f"instance {missing[0]}: a task died while renaming them. Delete the folder and run "
            "again."
        )
