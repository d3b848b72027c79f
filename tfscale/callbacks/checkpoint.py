"""Training that can be interrupted at any moment and goes on as if it had not been."""

from __future__ import annotations

import os
from typing import Any, NoReturn

import keras

from strategies import is_chief
from strategies.extension import (
    FitInput,
    announce,
    at_end_of_fit,
    end_resumption,
    phase,
    settle,
    truth,
)
from tfscale.callbacks.arguments import is_positive_integer, require
from tfscale.callbacks.local_updates import LocalUpdates
from tfscale.callbacks.preemption import Preemption
from tfscale.callbacks.resumed_rate import ResumedRate
from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.agreement import newest_for_all, topology_of
from tfscale.checkpoints.callback_state import callback_states, restore_callbacks
from tfscale.checkpoints.refusals import (
    known_initial_epoch,
    known_order,
    refuse_model,
    refuse_other_input,
)
from tfscale.checkpoints.shared_lease import SharedLease
from tfscale.checkpoints.snapshot_memory import SnapshotMemory
from tfscale.checkpoints.state import restore, snapshot
from tfscale.checkpoints.targets import target_path
from tfscale.checkpoints.writing import BackgroundWriter


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of a training, and resumes from the newest whole checkpoint.

    The state: the model's variables with the seeds of its random layers, the optimizer's, the
    metrics', that of callbacks which have `state()` and `restore(state)` and of Keras's
    EarlyStopping, ReduceLROnPlateau and ModelCheckpoint, and the position, in global batches
    consumed. When `fit` begins and the folder holds checkpoints, training goes on from there: `fit`
    keeps its `epochs` and does the rest, and an `initial_epoch` that says otherwise is refused.
    With `tf.config.experimental.enable_op_determinism()` and the same replicas, the rest is the
    same to the bit; on other replicas and workers, to rounding.

    A pipeline of `tfscale.data` seeks its position. Arrays and datasets are read again and passed
    over; they need a known length and, for `every` in steps, seeds. Other input is refused.

    A damaged checkpoint is named, and the one before is used. Of several workers the chief writes,
    and all read: they need a common folder. See docs/concepts/checkpoint_format.md.

    On SIGTERM to any worker, or Google Cloud's notice that its VM goes, all save the same step, end
    with `SystemExit(42)`, and `tfscale launch --max_restarts` starts such a job again for free.

    Attributes:
        directory: The `CheckpointDirectory`.
        position: The `Position` of the training now.
        resumed_from: The `Position` this `fit` began at, or None if it began anew.

    Args:
        directory: The run's folder, local or of a file system that TensorFlow knows (`gs://`). One
            job at a time saves to it. Fixed here: a later change of the current folder moves none.
        every: "epoch" for the end of every epoch, or a positive number of global batches, looked at
            after each execution. The end of training is always saved, and with a number also a
            `fit` that is stopped in mid-epoch.
        keep: Checkpoints to keep; older ones go once a new one is whole. Positive, or None for all.
        asynchronous: Whether to copy and write beside training. The state is in memory twice, and
            what changes before it is copied a third time. A second write waits for the first. An
            error is raised after the next step.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the model is not under
            one of our strategies or not built, the input cannot be resumed, or the checkpoint is
            of another epoch than `initial_epoch`, of another model or, in mid-epoch, other input;
            or if another job saves to the folder, or nothing can be written there.
        OSError: If a checkpoint cannot be written; those from before are whole. When training
            begins, if the storage does not answer within some 20 s.
        RuntimeError: If another job has taken the folder over, after this one was stopped or cut
            off for a minute.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("adam", "mse")
        >>> checkpoint = Checkpoint(folder, keep=2)
        >>> history = model.fit(rows, targets, epochs=3, callbacks=[checkpoint], verbose=0)
        >>> checkpoint.position.epoch
        3
    """

    needs_every_worker = True  # workers meet in it
    comes_last = True  # after all other callbacks: it saves what they have left

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | str = "epoch",
        keep: int | None = 3,
        asynchronous: bool = True,
    ) -> None:
        super().__init__()
        is_every = (isinstance(every, str) and every == "epoch") or is_positive_integer(every)
        require("every", every, is_every, "'epoch' or a positive number of global batches")
        require(
            "keep", keep, keep is None or is_positive_integer(keep), "a positive number, or None"
        )
        self.every = every if isinstance(every, str) else int(every)
        self.keep = keep
        self.asynchronous = truth("asynchronous", asynchronous)
        self.position = Position(0, 0, 0)
        self.resumed_from: Position | None = None
        self.directory = CheckpointDirectory(target_path("directory", directory, is_saved_to=True))
        self._memory = SnapshotMemory()
        self._writer = BackgroundWriter(self.directory.path)
        self._saved = 0
        self._callbacks: list[Any] = []
        self._input: FitInput | None = None
        self._order = ""
        self._initial_epoch = 0
        self._content: Content | None = None
        self._lease: SharedLease | None = None
        self._steps_alone = False
        self._rate: ResumedRate | None = None

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Restores the model before any callback looks at it."""
        refuse_model(self.model)
        self._steps_alone = any(isinstance(c, LocalUpdates) for c in callbacks)
        if self.every != "epoch" and self._steps_alone:
            raise ValueError(
                "`every` must be 'epoch' beside LocalUpdates, whose replicas differ within a "
                f"round. Received: every={self.every!r}. Checkpoint at the ends of epochs."
            )
        self._callbacks = callbacks
        self._input = FitInput(self.model)
        self._input.refuse_unseekable()
        self._order = known_order(self._input, is_needed=self.every != "epoch")
        self._writer.wait()
        self._content = content = newest_for_all(
            self.directory, self.model.distribute_strategy, callbacks, self._begin_to_hold
        )
        self.position = content.position if content else Position(0, 0, 0)
        self.resumed_from = content.position if content else None
        self._saved = self.position.batches
        self._initial_epoch = self._input.initial_epoch
        if content is not None:
            self._initial_epoch = known_initial_epoch(content, self._input)
            refuse_other_input(content, self._input)
            self._rate = ResumedRate(self.model)
            restore(self.model, content.tensors)
            self._rate.restored()

    def _begin_to_hold(self) -> None:
        self._lease = SharedLease(self.directory.path)
        at_end_of_fit(self._lease.release)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the callbacks, which have begun, and moves the input on."""
        refuse_model(self.model)  # Keras that was never fixed has shown no callbacks
        in_mid_epoch = bool(self._order) and not self._steps_alone
        self._preemption = Preemption(self.model, in_mid_epoch=in_mid_epoch)
        self._preemption.begin()
        if self._content is None:
            return
        assert self._input is not None
        said = restore_callbacks(
            self._callbacks, self._content.callbacks, dict(self._content.tensors)
        )
        epoch, step, batches = vars(self.position).values()
        self._input.begin_at(epoch, step, batches)
        if is_chief(self.model.distribute_strategy):
            announce(f"resuming from {self.directory.path}: epoch {epoch}, step {step}.")
            for line in said:
                announce(f"WARNING: {line}.")
            if epoch >= self.params["epochs"]:
                announce(f"`epochs` is {self.params['epochs']}: nothing is left to train.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes note of the epoch."""
        end_resumption(self.model)
        rate, self._rate = self._rate, None
        if rate and is_chief(self.model.distribute_strategy) and (said := rate.sentence()):
            announce(said)
        at = self.position
        self.position = Position(epoch, at.step, at.batches)
        if not at.step:
            self._content = None  # what callbacks have set for the new epoch stays

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores once more in mid-epoch: the metrics' state, which the epoch's begin resets.

        And what other callbacks have set for an epoch that had begun already, such as a rate.
        """
        if self._content is not None:
            restore(self.model, self._content.tensors)
            self._content = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts what was consumed, and saves if it is time."""
        self._writer.check()
        if self._lease is not None:
            self._lease.refuse_if_lost()
        at, step = self.position, batch + 1
        self.position = Position(at.epoch, step, at.batches + step - at.step)
        if self._is_whole_epoch():
            return
        if not self.model.stop_training and self._preemption.is_due():
            self._save_and_leave(with_metrics=True)
        if self.every == "epoch":
            return
        if self._is_due() or self.model.stop_training:
            self._save(with_metrics=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves if it is time, after all other callbacks have had their say."""
        stops = bool(self.model.stop_training)
        if stops and not self._is_whole_epoch():
            return
        self.position = Position(epoch + 1, 0, self.position.batches)
        if self._is_due() or stops or epoch + 1 >= self.params["epochs"]:
            self._save(with_metrics=False)
        if self._preemption.is_due_at_meeting():
            self._save_and_leave(with_metrics=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for what is being written."""
        end_resumption(self.model)
        self._content = None
        self._writer.wait()
        if self._preemption.is_due_at_meeting():
            self._preemption.leave()
        self._preemption.end()

    def _is_whole_epoch(self) -> bool:
        assert self._input is not None
        return bool(self.position.step == self._input.steps_per_epoch)

    def _is_due(self) -> bool:
        if not isinstance(self.every, int):
            return True
        return self.position.batches // self.every > self._saved // self.every

    def _save_and_leave(self, *, with_metrics: bool) -> NoReturn:
        if self._saved != self.position.batches:
            self._save(with_metrics=with_metrics)
        self._writer.wait()
        self._preemption.leave()

    @phase("save")
    def _save(self, *, with_metrics: bool) -> None:
        assert self._input is not None
        self._writer.wait()  # before the snapshot: no more than one is in memory
        strategy = self.model.distribute_strategy
        settle(strategy)
        tensors = snapshot(self.model, with_metrics=with_metrics, memory=self._memory)
        self._saved = self.position.batches
        if not is_chief(strategy):
            return
        states, arrays = callback_states(self._callbacks)
        topology = topology_of(strategy, self._input, self._order, self._initial_epoch)
        content = Content(self.position, topology, {**tensors, **arrays}, states)
        assert self._lease is not None
        lease = self._lease.another_use()  # a write may outlast a `fit` that failed

        def write() -> None:
            try:
                self._memory.fill()
                self.directory.save(content, self.keep, lease.check)
            finally:
                lease.release()

        if self.asynchronous:
            self._writer.begin(write)
        else:
            write()
