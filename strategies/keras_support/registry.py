"""Every defect of Keras under tf.distribute that is repaired or refused here.

`tfscale doctor` prints this table. A repair may go when the condition in its `remove_when` holds.
What needs no seam is not in it: keys of several strategies (`strategies.collective_keys`).
"""

from __future__ import annotations

from strategies.keras_support.crashes import CRASHES
from strategies.keras_support.function_seam import PREDICT
from strategies.keras_support.hangs import HANGS
from strategies.keras_support.quiet_seam import PRINT
from strategies.keras_support.resumption import TRAIN_BEGIN
from strategies.keras_support.silent_defects import SILENT

REPAIRS = (*SILENT, *HANGS, *CRASHES)

_WITHOUT_A_ROW = (PREDICT, TRAIN_BEGIN, PRINT)

SEAMS = (*dict.fromkeys(seam for repair in REPAIRS for seam in repair.seams), *_WITHOUT_A_ROW)
