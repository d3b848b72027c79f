"""Records what all workers do in some steps of `fit`, as a trace for Perfetto."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from strategies import is_chief
from strategies.extension import (
    announce,
    at_end_of_fit,
    attach_clock,
    exchange,
    is_multi_worker,
    timed_progress,
    truth,
    worker_index,
)
from tfscale.monitor.phases import by_phase
from tfscale.profile.chrome_trace import Offset, Step, merged, read_trace, worker_trace, write_trace
from tfscale.profile.clocks import clock_offsets
from tfscale.profile.xspace import rows_of
from tfscale.synchronous_training import require_synchronous

TRACE_FILE = "trace.json.gz"


class Profile(keras.callbacks.Callback):
    """Records some steps of each `fit` with TensorFlow's profiler, as a trace that Perfetto opens.

    `folder/trace.json.gz` has a process for each worker, with its clock aligned to the first one's.
    Its row "steps" has the steps, with the milliseconds of each phase of `Monitor`; the other rows
    are threads of the host and streams of GPUs. `folder/worker-0.xplane.pb` and so on are the
    profiler's own files, for xprof and TensorBoard. A second `fit` replaces them.

    The steps outside of the range are not slowed down, but for short steps, which do not share a
    call because this callback is called after each. In the range the profiler takes time. Pass it
    on all workers, which need to share the folder.

    Attributes:
        steps: The range, as given.
        verbose: As given.
        recorded: The steps of this worker, after they were recorded; empty before.

    Args:
        folder: A folder that all workers share. It is made.
        steps: The first step to record, from 0 in each `fit`, and the first after it. Leave out the
            first steps, in which TensorFlow traces and warms up. With `steps_per_execution`
            executions that have a step of the range are recorded, each as one.
        verbose: Whether the chief prints where the trace is.

    Raises:
        ValueError: If an argument is wrong. When training begins, if the model is not under a
            tfscale strategy or trains asynchronously, or workers do not share the folder; at the
            first step, if another profile is running.
        OSError: If the files cannot be written.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> profile = Profile(folder, steps=(1, 3))
        >>> history = model.fit(rows, targets, batch_size=1, callbacks=[profile], verbose=0)
        >>> [step.number for step in profile.recorded]
        [1, 2]
    """

    needs_every_worker = True  # each writes its own file

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        steps: Sequence[int] = (10, 20),
        verbose: bool = True,
    ) -> None:
        super().__init__()
        path = os.fspath(folder) if isinstance(folder, str | os.PathLike) else ""
        if not path or "://" in str(path) or "\0" in str(path):
            raise ValueError(
                f"`folder` must be a folder of a file system. Received: folder={folder!r}. Pass a "
                "path that all workers share."
            )
        self.folder = Path(path).resolve()
        self.steps = _range(steps)
        self.recorded: tuple[Step, ...] = ()
        self.verbose = truth("verbose", verbose)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that the folder can be used, and begins to count steps."""
        strategy = self.model.distribute_strategy
        require_synchronous(self.model, "Profile")
        self._worker = worker_index(strategy)
        self._others = is_multi_worker(strategy)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / TRACE_FILE).unlink(missing_ok=True)
        self._refuse_folder_of_one(strategy)
        self._clock = attach_clock(self.model)
        self._progress: Any = None
        self._seen = 0
        self._steps: list[Step] = []
        self._phases: dict[str, float] = {}
        self._is_running = False
        self._temporary: str | None = None
        self.recorded = ()
        at_end_of_fit(self._discard)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes what measures the phases."""
        if self._progress is None:
            self._progress = timed_progress(self._clock)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the profiler before the execution with the first step of the range."""
        end = self._seen + self.model.steps_per_execution  # at most; an epoch may end before
        if end > self.steps[0] and not (self._is_running or self.recorded):
            self._start()
        self._batch = batch
        self._began = time.time_ns()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes a step; ends the profile after the last one of the range."""
        ended = time.time_ns()
        first, self._seen = self._seen, self._seen + batch - self._batch + 1
        if not self._is_running:
            return
        now = self._progress.seconds()
        phases = by_phase(now, self._phases, is_first=first == 0)
        self._phases = now
        used = {name: seconds for name, seconds in phases.items() if seconds > 0}
        if self._seen > self.steps[0]:
            self._steps.append(Step(first, self._began, ended, used, self._seen - first))
        if self._seen >= self.steps[1]:
            self._finish()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends a profile that the training was too short for."""
        if self._is_running and self._steps:
            self._finish()
        elif not self.recorded and is_chief(self.model.distribute_strategy):
            announce(
                f"Profile has recorded nothing: training ended after {self._seen} steps, before "
                f"step {self.steps[0]}."
            )

    def _start(self) -> None:
        self._temporary = tempfile.mkdtemp(prefix=f"worker-{self._worker}-", dir=self.folder)
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
        )
        try:
            tf.profiler.experimental.start(self._temporary, options)
        except tf.errors.AlreadyExistsError as error:
            raise ValueError(
                "`callbacks` must have one that profiles: TensorFlow records one profile at a time."
                " Received: Profile, while another profile is running. Leave out the other one, "
                "such as `profile_batch` of keras.callbacks.TensorBoard; one that a failed `fit` "
                "left behind ends with tf.profiler.experimental.stop()."
            ) from error
        self._is_running = True
        self._phases = self._progress.seconds()

    def _finish(self) -> None:
        strategy = self.model.distribute_strategy
        for variable in self.model.trainable_variables[:1]:
            variable.numpy()  # waits for the kernels of the last step
        tf.profiler.experimental.stop()
        self._is_running = False
        (found,) = Path(str(self._temporary)).rglob("*.xplane.pb")
        rows = rows_of(found.read_bytes())
        found.replace(self._file("xplane.pb", self._worker))
        self._remove_temporary()  # before others go on, who may remove the folder
        trace = worker_trace(self._worker, self._steps, rows)
        self.recorded = tuple(self._steps)
        offsets = [Offset(0, 0)]
        traces = [trace]
        if self._others:
            write_trace(self._file(TRACE_FILE, self._worker), trace)
            offsets = clock_offsets(strategy)  # and all files are there
        if is_chief(strategy):
            if self._others:
                files = [self._file(TRACE_FILE, worker) for worker in range(len(offsets))]
                traces = [read_trace(file) for file in files]
            write_trace(self.folder / TRACE_FILE, merged(traces, offsets))
            if self._others:
                for file in files:
                    file.unlink()
            if self.verbose:
                announce(f"Profile: {self.folder / TRACE_FILE}, for https://ui.perfetto.dev")

    def _discard(self) -> None:
        """Ends the profiler if training failed in the range, and removes what is temporary."""
        if self._is_running:
            self._is_running = False
            with contextlib.suppress(tf.errors.OpError):
                tf.profiler.experimental.stop(save=False)
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _file(self, name: str, worker: int) -> Path:
        return self.folder / f"worker-{worker}.{name}"

    def _refuse_folder_of_one(self, strategy: tf.distribute.Strategy) -> None:
        if not self._others:
            return
        mark = self.folder / f".worker-{self._worker}"
        mark.touch()
        workers = len(exchange(strategy, "folder of a profile"))
        seen = {k for k in range(workers) if (self.folder / f".worker-{k}").exists()}
        answers = exchange(strategy, "files of a profile", "" if len(seen) == workers else "no")
        mark.unlink()
        if "no" in answers:
            alone = answers.index("no")
            raise ValueError(
                f"`folder` must be shared by all workers. Received: folder={self.folder}, where "
                f"worker {alone} does not see the files of the others. Pass a folder of a shared "
                "file system."
            )


def _range(steps: Any) -> tuple[int, int]:
    good = isinstance(steps, list | tuple) and len(steps) == 2
    if good and all(isinstance(each, Integral) and not isinstance(each, bool) for each in steps):
        first, end = map(int, steps)
        if 0 <= first < end:
            return first, end
    raise ValueError(
        "`steps` must be two whole numbers, the first at least 0 and below the second. Received: "
        f"steps={steps!r}. Such as (10, 20)."
    )
