"""Records in `fit` where the time goes, what the devices do, and how training moves."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from strategies import is_chief
from strategies.extension import (
    FitInput,
    Progress,
    at_end_of_fit,
    attach_clock,
    function,
    number,
    own_job_starts,
    phase,
    sequence,
    timed_progress,
    truth,
    worker_index,
)
from tfscale.monitor import journal
from tfscale.monitor.meters import Meters
from tfscale.monitor.norms import LayerNorms
from tfscale.monitor.peak import measured_peak
from tfscale.monitor.phases import by_phase
from tfscale.monitor.resources import Resources
from tfscale.monitor.step_counts import step_counts
from tfscale.monitor.trackers import Tracker, flat
from tfscale.monitor.worker_record import WorkerRecord
from tfscale.synchronous_training import require_synchronous

_PROCESSOR_SECONDS = 200e-6
"""Of a step, on average, that recording may take."""
_MEASURE = "measure"
_CLOCK_SECONDS, _CLOCK_PART = 0.002, 0.01
"""By how much wall time and monotonic time differ at most, unless the host's clock was set."""


class Monitor(keras.callbacks.Callback):
    """Records examples a second, the time by phase, operations and memory, for each worker.

    A line of JSON is written for a step that takes at least `every_seconds`, and else for the steps
    within that time, so a short step costs next to nothing. What the callback itself computes takes
    at most 200 us of processor time a step on average: after a record that took longer, the next
    one waits. The first execution always has a line of its own. Every worker writes its own file,
    `monitor-0.jsonl` and so on, and appends after a restart.

    The phases of a line add up to its wall time: "compile" (the first execution), "input_wait",
    "compute", "communication" (waiting in an all-reduce or for other workers; what computation
    hides is not in it), "callbacks" (all other Python between steps), "checkpoint" (of `Checkpoint`
    in this thread), "restore" and "evaluation". They are measured by marks in the graph of the
    step, which cost tens of microseconds. With `jit_compile`, communication counts as "compute". On
    GPUs a call returns before its kernels end: there "input_wait" may hide behind them, and
    "communication" ends when it has started. Pass this callback on all workers.

    Attributes:
        last: The newest line of this `fit`, as a dictionary; None before.
        flops_per_example: Operations of training on an example, see
            `tfscale.monitor.training_flops`; None before, or if they are not known.
        collective_bytes_per_step: Bytes that this worker's replicas send each other and those of
            other workers in a step, see `tfscale.monitor.training_collectives`; None as above.
        peak_flops: Operations a second that this worker's devices can do; None if not given.

    Args:
        folder: A local folder for the files, or None for no files.
        every_seconds: Seconds between two lines, at least. Not negative.
        flops: Whether operations and bytes of collectives are counted. The step is traced once
            more for it.
        peak_flops: Operations a second that this worker's devices can do together, for the
            utilization; "measure" times a product of matrices for a second when training begins.
        norms: Whether lines contain the norm of the gradient, and by layer its norm, that of the
            weights and the update divided by it (typically 1e-3), of the newest step. They are
            computed in the step: weights are copied for it, which costs their memory once more.
        trackers: Functions that the chief calls with each line: with the position, and the numbers
            of the line by name, phases as parts of its seconds: `tfscale.monitor.tensorboard`,
            `mlflow` and `wandb` make some. What they take counts as the time of Monitor.
        in_logs: Whether the logs of each epoch contain `examples_per_second`, of all workers if
            they are equally fast, and `utilization`, of the time without evaluation and saving.
        energy: Whether lines contain joules: of GPUs by NVML, which needs `tfscale[energy]`, and of
            processors by RAPL. `tfscale.monitor.energy` sums them.
        processor_watts: What a processor (as `os.cpu_count` counts) takes while it is busy, for an
            estimate where RAPL cannot be read: times the processor time of this process.
        carbon_intensity: Grams of CO2e a kilowatt-hour, of where the host is.

    Raises:
        ValueError: If an argument is out of range. When training begins, if the model is not under
            a tfscale strategy, or trains asynchronously, or another Monitor writes `folder`, in
            this `fit` or in another process that still runs, or nothing
            measures `energy`, or `norms` cannot be measured: the model is not built, or replicas
            have only parts of weights (`shard`, a pipeline).
        OSError: When training begins, if the files cannot be made. A disk that is full does not
            end the training: it is said once, and lines wait until there is room.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> monitor = Monitor(folder)
        >>> history = model.fit(rows, targets, callbacks=[monitor], epochs=3, verbose=0)
        >>> monitor.flops_per_example  # 2 x 1 x 1 forward, and for the kernel
        4.0
    """

    needs_every_worker = True  # each writes its own file
    needs_every_batch = False  # the graph measures

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        every_seconds: float = 1.0,
        flops: bool = True,
        peak_flops: float | str | None = None,
        norms: bool = False,
        trackers: Sequence[Tracker] = (),
        in_logs: bool = False,
        energy: bool = False,
        processor_watts: float | None = None,
        carbon_intensity: float | None = None,
    ) -> None:
        super().__init__()
        self.folder = None if folder is None else journal.local_folder(folder)
        self.every_seconds = number(
            "every_seconds", every_seconds, "a number of seconds, 0 or more", lambda s: s >= 0
        )
        self.flops = truth("flops", flops)
        self._asked_peak = peak_flops
        self.peak_flops: float | None = None
        if peak_flops is not None and peak_flops != _MEASURE:
            rule = 'a positive number of operations a second, or "measure"'
            self.peak_flops = number("peak_flops", peak_flops, rule, lambda rate: rate > 0)
        self.norms = truth("norms", norms)
        self.trackers = [
            function(f"trackers[{place}]", each)
            for place, each in enumerate(sequence("trackers", trackers))
        ]
        self.in_logs = truth("in_logs", in_logs)
        self.energy = truth("energy", energy)
        self.processor_watts = self._of_energy("processor_watts", processor_watts, "watts")
        self.carbon_intensity = self._of_energy("carbon_intensity", carbon_intensity, "g/kWh")
        self.last: dict[str, Any] | None = None
        self.flops_per_example: float | None = None
        self.collective_bytes_per_step: int | None = None
        self._record_of_worker: WorkerRecord | None = None
        self._norms: LayerNorms | None = None
        self._callbacks: list[Any] = []

    def _of_energy(self, name: str, value: float | None, unit: str) -> float | None:
        if value is not None and not self.energy:
            raise ValueError(
                f"`{name}` must be given with energy=True. Received: {name}={value!r} without it. "
                "Add energy=True."
            )
        rule = f"a positive number of {unit}"
        return None if value is None else number(name, value, rule, lambda given: given > 0)

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Notes the other callbacks, of which Checkpoint says how long it has restored."""
        self._callbacks = callbacks

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins the file, and the clock."""
        strategy = self.model.distribute_strategy
        require_synchronous(self.model, "Monitor")
        began = journal.clock()
        workers = strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)
        if self._asked_peak == _MEASURE and self.peak_flops is None:
            self.peak_flops = measured_peak(strategy) / workers
        self._clock = attach_clock(self.model)
        if self.norms:
            self._norms = LayerNorms(self.model)
            at_end_of_fit(self._norms.end)
        self._progress: Progress | None = None
        self._record_of_worker = None
        self._spec = FitInput(self.model).replica_spec()
        self._steps = self._first_batch = self._aside = 0
        self._before_test = 0
        self._first_steps = 0
        self._spent = 0.0
        self._resources = Resources(Meters(self.processor_watts) if self.energy else None)
        self._position = int(tf.convert_to_tensor(self.model.optimizer.iterations))
        self.last = None
        if self.folder is not None:
            self._begin_file(began, workers)

    def _begin_file(self, began: float, workers: int) -> None:
        assert self.folder is not None
        folders = [each.folder for each in self._callbacks if isinstance(each, Monitor)]
        if (count := folders.count(self.folder)) > 1:
            raise ValueError(
                f"`callbacks` must have one Monitor for a folder. Received: {count} with "
                f"folder={str(self.folder)!r}. Give them folders of their own."
            )
        strategy = self.model.distribute_strategy
        worker, starts = worker_index(strategy), own_job_starts()
        self._record_of_worker = WorkerRecord(
            self.folder,
            worker,
            {
                "version": journal.VERSION,
                "worker": worker,
                "workers": workers,
                "replicas": strategy.num_replicas_in_sync,
                "job": str(starts[0]) if starts else "",
                "process": os.getpid(),
                "host": platform.node(),
                "boot": journal.boot_id(),
                "process_began": journal.process_began(began),
                "restore_seconds": sum(_restoring(each) for each in self._callbacks),
                "position": self._position,
                "peak_flops": self.peak_flops,
                "peak_is_measured": self._asked_peak == _MEASURE,
                "carbon_intensity": self.carbon_intensity,
            },
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the first window, and the figures of an epoch."""
        if self._progress is None:
            self._progress = timed_progress(self._clock)
            self._since = self._mark()
            if self._record_of_worker is not None:
                self._record_of_worker.begin_heartbeat(self._so_far)
        self._epoch = epoch
        self._epoch_began = self._mark()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the first step of the execution."""
        self._first_batch = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts steps; writes a line if it is due."""
        self._steps += batch - self._first_batch + 1
        if self.last is None:
            self._first_steps = self._steps
            self._count_step()
            self._record()
            self._epoch_began = self._since
        elif (
            time.monotonic() - self._since.moment >= self.every_seconds
            and self._spent <= _PROCESSOR_SECONDS * self._steps
        ):
            self._record()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the examples of an evaluation out."""
        if self._progress is not None:
            self._progress.seconds()
            self._before_test = self._progress.examples()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the examples of an evaluation out."""
        if self._progress is not None:
            self._progress.seconds()
            self._aside += self._progress.examples() - self._before_test

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures of the epoch to the logs, if asked for."""
        if not self.in_logs or logs is None:
            return
        values = self._between(self._epoch_began, self._mark(), is_first=False)
        seconds = values["seconds"] - sum(
            values["phases"][each] for each in ("compile", "checkpoint", "restore", "evaluation")
        )
        examples = values["examples"] * self.model.distribute_strategy.num_replicas_in_sync
        local = len(self.model.distribute_strategy.extended.worker_devices)
        logs["examples_per_second"] = examples / local / seconds if seconds > 0 else 0.0
        if self.flops_per_example is not None and self.peak_flops is not None:
            done = values["examples"] * self.flops_per_example
            logs["utilization"] = done / seconds / self.peak_flops if seconds > 0 else 0.0

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the last lines."""
        if self._progress is not None:
            self._record()
        if self._record_of_worker is not None:
            self._record_of_worker.end(self._position + self._steps)
        for track in self.trackers:
            getattr(track, "end", lambda: None)()

    def _so_far(self) -> dict[str, Any]:
        """Returns what the time since the newest line was spent on; called from any thread."""
        assert self._progress is not None
        since, position = self._since, self._position + self._steps
        phases, both = self._progress.seconds_until_now(), journal.both_clocks(time.monotonic())
        now = _Mark(*both, self._steps, since.examples, phases)
        values = self._between(since, now, is_first=self.last is None)
        return {"since": since.moment, "position": position, **values}

    def _count_step(self) -> None:
        """Counts what the step of a full batch computes and sends."""
        examples = self._mark().examples - self._since.examples
        local = len(self.model.distribute_strategy.extended.worker_devices)
        rows = examples // (self._steps * local)
        if not self.flops or rows < 1:
            return
        with phase("trace"):
            counts = step_counts(self.model, self._spec, rows)
        if counts is not None:
            self.flops_per_example = counts.flops_per_example
            self.collective_bytes_per_step = counts.collective_bytes

    def _record(self) -> None:
        spent = time.thread_time()
        now = self._mark()
        values = self._between(self._since, now, is_first=self.last is None)
        optimizer = self.model.optimizer
        values |= {
            "epoch": self._epoch,
            "position": self._position + self._steps,
            "learning_rate": float(tf.convert_to_tensor(optimizer.learning_rate)),
            "monitor_seconds": self._spent,
            **self._resources.read(),
        }
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            values["loss_scale"] = float(tf.convert_to_tensor(optimizer.dynamic_scale))
        if self._norms is not None:
            values |= self._norms.record()
        self.last, self._since = values, now
        if self._record_of_worker is not None:
            self._record_of_worker.steps(values)
        if self.trackers and is_chief(self.model.distribute_strategy):
            numbers = dict(flat(values))
            for track in self.trackers:
                track(values["position"], numbers)
        if now.steps > self._first_steps:  # the first line loads what later ones use
            self._spent += time.thread_time() - spent

    def _between(self, before: _Mark, now: _Mark, *, is_first: bool) -> dict[str, Any]:
        examples = now.examples - before.examples
        seconds = now.moment - before.moment
        was_set_by = now.wall - before.wall - seconds
        is_set = abs(was_set_by) > _CLOCK_SECONDS + _CLOCK_PART * seconds
        phases = by_phase(now.phases, before.phases, is_first=is_first, is_clock_set=is_set)
        values: dict[str, Any] = {
            "steps": now.steps - before.steps,
            "seconds": seconds,
            "examples": examples,
            "examples_per_second": examples / seconds if seconds > 0 else 0.0,
            "phases": phases,
        }
        if is_set:
            values["clock_was_set_by"] = was_set_by
        if self.flops_per_example is not None:
            values["flops"] = round(self.flops_per_example * examples)
            if self.peak_flops is not None and seconds > 0:
                values["utilization"] = values["flops"] / seconds / self.peak_flops
        if self.collective_bytes_per_step is not None:
            values["collective_bytes"] = self.collective_bytes_per_step * values["steps"]
        return values

    def _mark(self) -> _Mark:
        assert self._progress is not None
        phases, both = self._progress.seconds(), journal.both_clocks(self._progress.moment)
        examples = self._progress.examples() - self._aside
        return _Mark(*both, self._steps, examples, phases)


class _Mark(NamedTuple):
    """A moment between two executions.

    Attributes:
        moment: On the clock of `time.monotonic`.
        wall: On the clock of `time.time`, which may be set.
        steps: Steps before it.
        examples: Examples of this worker before it.
        phases: Seconds of each phase of `strategies.progress` before it.
    """

    moment: float
    wall: float
    steps: int
    examples: int
    phases: dict[str, float]


def _restoring(callback: Any) -> float:
    return float(getattr(callback, "restore_seconds", 0.0))
