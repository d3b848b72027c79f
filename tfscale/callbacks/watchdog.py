"""Reports where training hangs, and ends the job after a deadline."""

from __future__ import annotations

import itertools
import json
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import (
    HeartbeatBoard,
    Progress,
    announce,
    attach_clock,
    exchange,
    is_multi_worker,
    moved,
    number,
    refuse_model_outside,
    task_probe,
    watch,
)
from tfscale.watchdog.monitor_threads import NOTICE_SECONDS, MonitorThreads
from tfscale.watchdog.stragglers import straggler_line

_FITS = itertools.count()


class Watchdog(keras.callbacks.Callback):
    """Names the worker that blocks a job, and ends the job after a deadline.

    Without this callback, a waiting worker names the blocking one after 30 s, but nothing ends the
    job; see docs/howto/hangs.md. This callback adds the deadline, and reports earlier and with
    stacks.

    Every worker reports once a second its epoch, step and phase: "input", "step", "collective"
    (waiting for other workers), "callbacks" (all Python code between steps), "evaluate", "predict",
    "save", "restore" or "trace" (the first execution). If a worker makes no progress for 7 s (or
    twice the longest pause so far), or stops reporting, all workers print its name and the Python
    stacks of its threads. They name the worker that is behind, not those that wait for it. After
    the deadline the job ends with the same message: TensorFlow is stopped first, which ends the
    other workers' waits. A process that still runs 5 s later exits with status 1. While every
    worker makes progress, nothing is ended.

    Progress is reading a batch, for training or evaluation, and every change of phase; while
    TensorFlow traces the first execution, another line of Python. So the deadline must be longer
    than the longest step, save, or call of another callback that does not call `alive`.

    At the end of every epoch workers exchange the seconds of each phase. If a worker is clearly
    slower than the others by its own work, the chief names it; see `tfscale.watchdog.stragglers`.

    In a single process only input and step are monitored. The chief of asynchronous training also
    names a worker or server that does not respond. Put this callback first, and on all workers. Its
    markers stay in the graphs of the model's step and cost tens of microseconds per step. With
    `jit_compile`, waiting for others counts as "step". While it runs it uses the process's
    `faulthandler.dump_traceback_later`.

    Attributes:
        seconds: For each worker in order, the seconds of each phase of the last epoch.

    Args:
        deadline_seconds: Seconds without progress after which the job is ended. More than 7.

    Raises:
        ValueError: If `deadline_seconds` is out of range. When training begins, if the model is not
            under a tfscale strategy.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> watchdog = Watchdog(deadline_seconds=600)
        >>> history = model.fit(rows, targets, callbacks=[watchdog], verbose=0)
        >>> sorted(watchdog.seconds[0])[:3]
        ['callbacks', 'collective', 'evaluate']
    """

    needs_every_worker = True  # its methods exchange messages between workers
    needs_every_batch = False  # the graph counts batches

    def __init__(self, deadline_seconds: float = 300.0) -> None:
        super().__init__()
        rule = f"a number of seconds above {NOTICE_SECONDS:g}, after which a stall is reported"
        self.deadline_seconds = number(
            "deadline_seconds",
            deadline_seconds,
            rule,
            lambda seconds: seconds > NOTICE_SECONDS,
            cure="Omit it for the default.",
        )
        self.seconds: tuple[dict[str, float], ...] = ()
        self._board: HeartbeatBoard | None = None
        self._progress: Progress | None = None

    def alive(self) -> None:
        """Reports progress within a long call, from any thread, for instance after each file."""
        moved()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to monitor, until `fit` ends."""
        strategy = self.model.distribute_strategy
        refuse_model_outside(self.model, "Watchdog")
        fit = next(_FITS)
        self._board = HeartbeatBoard(strategy, f"fit {fit}") if is_multi_worker(strategy) else None
        monitor = MonitorThreads(self.deadline_seconds, self._board, task_probe(strategy))
        self._progress = Progress(attach_clock(self.model), monitor.end)
        watch(self._progress)
        monitor.begin(self._progress)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        assert self._progress is not None
        self._progress.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the step."""
        assert self._progress is not None
        self._progress.begin_execution(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the workers' times. The chief names a worker that is clearly slower."""
        assert self._progress is not None
        own = self._progress.take_seconds()
        if self._board is None:
            self.seconds = (own,)
            return
        strategy = self.model.distribute_strategy
        answers = exchange(strategy, "seconds of the epoch by phase", json.dumps(own))
        self.seconds = tuple(json.loads(words) for words in answers)
        workers = list(zip(self._board.names, self.seconds, strict=True))
        line = straggler_line(epoch, workers)
        if line is not None and is_chief(strategy):
            announce(f"watchdog: {line}")
