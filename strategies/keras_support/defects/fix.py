"""One defect of Keras under tf.distribute, and its fix."""

from __future__ import annotations

from dataclasses import dataclass

from strategies.keras_support.patches import APPLY, LOSS_SCALE_APPLY, REDUCE
from strategies.keras_support.patching.patch import Patch

KERAS = "https://github.com/keras-team/keras/issues/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/issues/"

GRADIENTS = (APPLY, LOSS_SCALE_APPLY, REDUCE)
REDUCES_FIRST = "Keras adds gradients up over the replicas before it clips, checks or accumulates"


@dataclass(frozen=True)
class Fix:
    """One defect and its fix.

    Attributes:
        row: Short name of the defect: S silent, H hang, C crash.
        defect: What stock Keras does.
        patches: What fixes it.
        threads: Public reports of it; empty where none was found.
        remove_when: What upstream has to do before the fix may go.
    """

    row: str
    defect: str
    patches: tuple[Patch, ...]
    threads: tuple[str, ...]
    remove_when: str

    @property
    def test(self) -> str:
        """The command that trains without this fix, and must fail."""
        return f"make parity DISABLE={self.row}"
