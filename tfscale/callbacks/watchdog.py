"""Training that says where it hangs, and ends instead of hanging on."""

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
    is_owned,
    moved,
    number,
    task_probe,
    watch,
)
from tfscale.watchdog.monitor_threads import NOTICE_SECONDS, Sentry
from tfscale.watchdog.stragglers import straggler_line

_FITS = itertools.count()


class Watchdog(keras.callbacks.Callback):
    """Names the worker that a job hangs on, and ends the job instead of letting it hang.

    Without it a worker that waits names the other one after 30 s, and nothing is ended: see
    docs/howto/hangs.md. This is the deadline, and names sooner, with stacks.

    Every worker says once a second where it is: its epoch, step and phase, which is one of "input",
    "step", "collective" (waiting for other workers), "callbacks" (all Python between steps),
    "evaluate", "predict", "save" and "trace" (the first execution). A worker that has not moved for
    7 s (or twice the longest pause so far), or says nothing any more, is named by all, with the
    Python stack of its threads: the one that is behind, not those that wait for it. Past the
    deadline the job ends with the same message: first TensorFlow is told, which ends what the
    others wait for; a process that has not ended 5 s later ends with status 1. As long as every
    worker moves, nothing is ended.

    Moving is reading a batch, for training or evaluation, and every change of phase; while
    TensorFlow traces the first execution, another line of Python. So the deadline must be longer
    than the longest step, save, or call of another callback that does not call `alive`.

    At the end of every epoch the seconds of each phase are exchanged, and a worker that is markedly
    slower than the others by its own work is named by the chief; see
    `tfscale.watchdog.stragglers`.

    In one process it watches input and step alone. The chief of an asynchronous training also
    names a worker or a server that does not answer. Put it first among the callbacks, and on all
    workers. Its marks stay in the graphs of the model's step and cost tens of microseconds a step.
    With `jit_compile` waiting for others counts as "step". The process's
    `faulthandler.dump_traceback_later` is in use while it watches.

    Attributes:
        seconds: Of the last epoch, for each worker in order, the seconds of each phase.

    Args:
        deadline_seconds: How long a worker may stand still. More than 7.

    Raises:
        ValueError: If `deadline_seconds` is out of range, or, when training begins, the model is
            not under one of our strategies.

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

    needs_every_worker = True  # workers meet in it

    def __init__(self, deadline_seconds: float = 300.0) -> None:
        super().__init__()
        rule = f"a number of seconds above {NOTICE_SECONDS:g}, after which a stall is told"
        self.deadline_seconds = number(
            "deadline_seconds",
            deadline_seconds,
            rule,
            lambda seconds: seconds > NOTICE_SECONDS,
            cure="Leave it out for the default.",
        )
        self.seconds: tuple[dict[str, float], ...] = ()
        self._board: HeartbeatBoard | None = None
        self._progress: Progress | None = None

    def alive(self) -> None:
        """Says, from any thread, that a long call goes on: one more file written, one more row."""
        moved()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to watch, until `fit` is over."""
        strategy = self.model.distribute_strategy
        if not is_owned(strategy):
            raise ValueError(
                "`model` must be made under one of our strategies to be watched. Received: a model "
                f"under {strategy!r}. Build and compile it under "
                "`with strategies.one_device_strategy().scope():`."
            )
        fit = next(_FITS)
        self._board = HeartbeatBoard(strategy, f"fit {fit}") if is_multi_worker(strategy) else None
        sentry = Sentry(self.deadline_seconds, self._board, task_probe(strategy))
        self._progress = Progress(attach_clock(self.model), sentry.end)
        watch(self._progress)
        sentry.begin(self._progress)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        assert self._progress is not None
        self._progress.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the step."""
        assert self._progress is not None
        self._progress.begin_execution(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the workers' times; the chief names one that is markedly slower."""
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
