"""Which constant learning rate a resumed training has: its checkpoint's, or the program's."""

from __future__ import annotations

from typing import Any

import keras


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
