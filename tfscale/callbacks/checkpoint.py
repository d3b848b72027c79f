"""The Checkpoint callback: saves training state and resumes from it."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn

import keras

from strategies import is_chief
from strategies.extension import (
    FitInput,
    announce,
    at_end_of_fit,
    end_resumption,
    phase,
    truth,
    wait_until_idle,
)
from tfscale.callbacks.arguments import is_positive_integer, require
from tfscale.callbacks.local_updates import LocalUpdates
from tfscale.callbacks.preemption import Preemption
from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.background_writer import BackgroundWriter
from tfscale.checkpoints.callback_state import callback_states, restore_callbacks
from tfscale.checkpoints.lease import SharedLease
from tfscale.checkpoints.paths import target_path
from tfscale.checkpoints.resume import (
    known_initial_epoch,
    known_order,
    newest_for_all,
    refuse_model,
    refuse_other_input,
    topology_of,
)
from tfscale.checkpoints.state import SnapshotMemory, restore, snapshot


class ResumedRate:
    """Detects that a checkpoint replaced the learning rate that a program sets.

    A constant rate is a variable of the optimizer and is restored from the checkpoint, so a program
    that resumes with another rate trains with the old one. This produces a message about it. A
    schedule is not a variable, and is not replaced.

    Args:
        model: A compiled model, before its state is restored.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._of_program = _constant_rate(model)
        self._of_checkpoint: float | None = None

    def restored(self) -> None:
        """Records the rate after the model's state was restored."""
        self._of_checkpoint = _constant_rate(self._model)

    def sentence(self) -> str | None:
        """Returns the message, or None if the rates are equal or a callback has set another."""
        program, checkpoint = self._of_program, self._of_checkpoint
        if program is None or checkpoint is None or program == checkpoint:
            return None
        if _constant_rate(self._model) != checkpoint:
            return None
        return (
            f"learning_rate is {checkpoint:g}, restored from the checkpoint, not {program:g} as "
            "set in this program. To change it, pass to fit the callback "
            f"keras.callbacks.LearningRateScheduler(lambda epoch: {program:g})."
        )


def _constant_rate(model: Any) -> float | None:
    rate = model.optimizer.learning_rate
    return float(keras.ops.convert_to_numpy(rate)) if isinstance(rate, keras.Variable) else None


def _after(epoch: int, step: int, epochs: int) -> str:
    """Returns a position as text: "after 5 of 12 epochs, 3 batches"."""
    of_all = f" of {epochs}" if epoch <= epochs else ""
    unit = "epoch" if (epochs if of_all else epoch) == 1 else "epochs"
    batches = f", {step} batch{'es' if step > 1 else ''}" if step else ""
    return f"after {epoch}{of_all} {unit}{batches}"


class Checkpoint(keras.callbacks.Callback):
    """Saves the complete training state, and resumes from the newest intact checkpoint.

    The state consists of the variables of the model (with the seeds of random layers), of the
    optimizer and of the metrics; the state of callbacks that have `state()` and `restore(state)`,
    and of Keras's EarlyStopping, ReduceLROnPlateau and ModelCheckpoint; and the position as the
    number of consumed global batches. If the folder contains checkpoints when `fit` begins,
    training resumes from the newest: `fit` trains the remaining part of its `epochs`. An
    `initial_epoch` that contradicts the checkpoint is an error. With
    `tf.config.experimental.enable_op_determinism()` and the same replicas, a resumed run is
    bit-identical to an uninterrupted one; with other replicas or workers it matches up to rounding.

    A pipeline of `tfscale.data` seeks its position directly. Arrays and datasets are read from the
    start and consumed batches are skipped. They need a known length and, if `every` is a number,
    seeds. Other input is an error.

    If a checkpoint is damaged, a warning names it, and the previous one is used. With several
    workers the chief writes and all read, so they need a common folder. See
    docs/concepts/checkpoint_format.md.

    On SIGTERM to any worker, or Google Cloud's notice that its VM will be stopped, all workers save
    the same step and exit with `SystemExit(42)`. `tfscale launch --max_restarts` restarts such a
    job, and does not count the restart.

    Attributes:
        directory: The `CheckpointDirectory`.
        position: The current `Position` of the training.
        resumed_from: The `Position` that this `fit` resumed from, or None.
        restore_seconds: How long this `fit` has looked for a checkpoint and restored it.

    Args:
        directory: The run's folder: local, or with a scheme that TensorFlow supports (`gs://`).
            Only one job at a time may save to it. A relative path is resolved here, once.
        every: "epoch" for the end of every epoch, or a positive number of global batches, checked
            after each execution. The end of training is always saved. With a number, a `fit` that
            is stopped in mid-epoch is saved too.
        keep: Number of checkpoints to keep; older ones are removed once a new one is complete.
            Positive, or None for all.
        asynchronous: Whether to copy and write in the background. The state is then in memory
            twice, and variables that change before they are copied a third time. A second write
            waits for the first. An error is raised after the next step.

    Raises:
        ValueError: If an argument is out of range. When training begins, if the model is not built
            or not under a tfscale strategy, the input cannot be resumed, the checkpoint does not
            match `initial_epoch`, the model or (in mid-epoch) the input, another job saves to the
            folder, or the folder is not writable.
        OSError: If a checkpoint cannot be written; earlier ones stay intact. When training begins,
            if the storage does not respond within about 20 s.
        RuntimeError: If another job has taken over the folder, after this one was suspended or
            disconnected for a minute.

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

    needs_every_worker = True  # its methods exchange messages between workers
    comes_last = True  # after all other callbacks, so that it saves their results

    @property
    def needs_every_batch(self) -> bool:
        """Whether an execution must not take several short steps."""
        return self.every != "epoch"

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
        self.restore_seconds = 0.0
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
        self._updates_locally = False
        self._rate: ResumedRate | None = None

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Restores the model before other callbacks see it."""
        refuse_model(self.model)
        self._updates_locally = any(isinstance(c, LocalUpdates) for c in callbacks)
        if self.every != "epoch" and self._updates_locally:
            raise ValueError(
                "`every` must be 'epoch' with LocalUpdates, because replicas differ within a "
                f"round. Received: every={self.every!r}. Save at the end of each epoch."
            )
        self._callbacks = callbacks
        self._input = FitInput(self.model)
        self._input.refuse_unseekable()
        self._order = known_order(self._input, is_needed=self.every != "epoch")
        began = time.monotonic()
        self._writer.wait()
        self._content = content = newest_for_all(
            self.directory, self.model.distribute_strategy, callbacks, self._acquire_lease
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
        self.restore_seconds = time.monotonic() - began

    def _acquire_lease(self) -> None:
        self._lease = SharedLease(self.directory.path)
        at_end_of_fit(self._lease.release)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the other callbacks, which have begun, and moves the input to its position."""
        refuse_model(self.model)  # `see_callbacks` is not called if Keras is not patched
        in_mid_epoch = bool(self._order) and not self._updates_locally
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
            epochs = self.params["epochs"]
            announce(f"resuming from {self.directory.path} {_after(epoch, step, epochs)}.")
            for line in said:
                announce(f"WARNING: {line}.")
            if epoch >= epochs:
                announce(f"`epochs` is {epochs}: training is already complete.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the epoch."""
        end_resumption(self.model)
        rate, self._rate = self._rate, None
        if rate and is_chief(self.model.distribute_strategy) and (said := rate.sentence()):
            announce(said)
        at = self.position
        self.position = Position(epoch, at.step, at.batches)
        if not at.step:
            self._content = None  # keeps what callbacks have set for the new epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """In mid-epoch restores the state again, because the beginning of the epoch changed it.

        Keras has reset the metrics, and other callbacks may have changed variables such as the
        learning rate.
        """
        if self._content is not None:
            with phase("restore"):
                restore(self.model, self._content.tensors)
            self._content = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts consumed batches, and saves if due."""
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
        """Saves if due, after all other callbacks have run."""
        stops = bool(self.model.stop_training)
        if stops and not self._is_whole_epoch():
            return
        self.position = Position(epoch + 1, 0, self.position.batches)
        if self._is_due() or stops or epoch + 1 >= self.params["epochs"]:
            self._save(with_metrics=False)
        if self._preemption.is_due_for_all():
            self._save_and_leave(with_metrics=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until all writes have finished."""
        end_resumption(self.model)
        self._content = None
        self._writer.wait()
        if self._preemption.is_due_for_all():
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
        self._writer.wait()  # before the snapshot, so that only one is in memory
        strategy = self.model.distribute_strategy
        wait_until_idle(strategy)
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
