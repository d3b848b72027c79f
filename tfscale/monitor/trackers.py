"""Passes what Monitor records to a tracker of experiments, as numbers by name.

    Monitor(folder, trackers=[tfscale.monitor.tensorboard("runs/first/tensorboard")])

A tracker is any function of a step and a dictionary of numbers. If it has a method `end`, Monitor
calls that when `fit` ends by itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

Tracker = Callable[[int, dict[str, float]], object]

_LEFT_OUT = ("steps", "seconds", "examples", "position")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the numbers of a line by name, `"phases/compute"` for those of a group.

    Phases are parts of the line's seconds; what only counts is left out.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            seconds = values.get("seconds") if name == "phases" else None
            parts = {each: v / seconds for each, v in value.items()} if seconds else value
            yield from flat(parts, f"{prefix}{name}/")
        elif isinstance(value, int | float) and (prefix or name not in _LEFT_OUT):
            yield f"{prefix}{name}", float(value)


_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MOST_METRICS = 1000
"""That MLflow takes at a time."""


def _known_name(run: str) -> str:
    if not isinstance(run, str) or not _NAME.fullmatch(run):
        raise ValueError(
            "`run` must be a name of at most 128 letters, digits, '.', '_' and '-'. Received: "
            f"run={run!r}. Choose such a name: W&B has no others."
        )
    return run


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"tfscale.monitor.{name} needs {name!r}, which cannot be imported: {error}. Install "
            f"it: pip install 'tfscale[{name}]'."
        ) from error


def tensorboard(folder: str | os.PathLike[str]) -> Tracker:
    """Returns a tracker that writes scalars for TensorBoard.

    Args:
        folder: Where the event files are, also `gs://`. It is made with the first line.

    Example:
        >>> tracker = tensorboard(folder)
        >>> tracker(1, {"phases/compute": 0.9})
    """
    writer: Any = None

    def write(step: int, values: dict[str, float]) -> None:
        nonlocal writer
        if writer is None:
            writer = tf.summary.create_file_writer(os.fspath(folder))
        with tf.init_scope(), writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"monitor/{name}", value, step=step)
        writer.flush()

    return write


def mlflow(uri: str | os.PathLike[str], *, run: str, experiment: str = "Default") -> Tracker:
    """Returns a tracker that logs metrics to MLflow, of the extra `tfscale[mlflow]`.

    A job that is started again continues its run, and so does another `fit`. The run is FINISHED
    when `fit` ends by itself, and RUNNING after it failed.

    Args:
        uri: A local folder, in which SQLite's `mlflow.db` is made, MLflow's store of one machine;
            or another address of MLflow, such as that of a tracking server.
        run: Name of the run, of letters, digits, ".", "_" and "-".
        experiment: Name of the experiment; it is made if needed.

    Raises:
        ImportError: If the library is not installed.
        ValueError: If `run` is no such name.

    Example:
        >>> if importlib.util.find_spec("mlflow"):
        ...     monitor = tfscale.callbacks.Monitor(trackers=[mlflow(folder, run="first")])
    """
    name = _known_name(run)
    return _Mlflow(_library("mlflow"), os.fspath(uri), name, experiment)


class _Mlflow:
    def __init__(self, library: Any, uri: str, run: str, experiment: str) -> None:
        self._library, self._run, self._experiment = library, run, experiment
        self._folder = None if "://" in uri else Path(uri).resolve()
        self._uri = uri if self._folder is None else f"sqlite:///{self._folder}/mlflow.db"
        self._client: Any = None
        self._id = ""

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if self._client is None:
            self._begin()
        now = int(time.time() * 1000)
        metric = self._library.entities.Metric
        metrics = [metric(name, value, now, step) for name, value in values.items()]
        for begin in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[begin : begin + _MOST_METRICS])

    def _begin(self) -> None:
        artifacts = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            artifacts = (self._folder / "artifacts").as_uri()
        self._client = client = self._library.MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(self._experiment)
        place = (
            found.experiment_id
            if found
            else client.create_experiment(self._experiment, artifact_location=artifacts)
        )
        named = client.search_runs([place], f"attributes.run_name = '{self._run}'", max_results=1)
        run = named[0] if named else client.create_run(place, run_name=self._run)
        self._id = run.info.run_id
        client.update_run(self._id, status="RUNNING")

    def end(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._id)
            self._client = None


def wandb(
    folder: str | os.PathLike[str], *, project: str, run: str, mode: str = "offline"
) -> Tracker:
    """Returns a tracker that logs to Weights & Biases, of the extra `tfscale[wandb]`.

    Args:
        folder: A local folder, in which the library makes `wandb`. With "offline" the run is there,
            and `wandb sync FOLDER/wandb/offline-run-...` uploads it.
        project: Name of the project.
        run: Name and identity of the run, of letters, digits, ".", "_" and "-": a job that is
            started again continues it.
        mode: "offline", or "online", which has not been run.

    Raises:
        ImportError: If the library is not installed.
        ValueError: If `run` is no such name, or `mode` is something else.

    Example:
        >>> if importlib.util.find_spec("wandb"):
        ...     tracker = wandb(folder, project="digits", run="first")
    """
    name = _known_name(run)
    if mode not in ("offline", "online"):
        raise ValueError(
            f'`mode` must be "offline" or "online". Received: mode={mode!r}. Leave it out to write '
            "files only."
        )
    return _Wandb(_library("wandb"), os.fspath(folder), project, name, mode)


class _Wandb:
    def __init__(self, library: Any, folder: str, project: str, run: str, mode: str) -> None:
        self._library, self._folder, self._mode = library, folder, mode
        self._project, self._name = project, run
        self._run: Any = None

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if self._run is None:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
            self._run = self._library.init(
                project=self._project,
                name=self._name,
                id=self._name,
                resume="allow",
                dir=self._folder,
                mode=self._mode,
                settings=self._library.Settings(console="off", silent=True),
            )
            # The library's own step only grows, and a start that repeats steps would be left out.
            self._run.define_metric("*", step_metric="position")
        self._run.log({**values, "position": step})

    def end(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
