"""Every defect of Keras under tf.distribute that is fixed or refused here.

`tfscale doctor` prints this table. A fix may go when the condition in its `remove_when` holds.
What needs no patch is not in it: keys of several strategies
(`strategies.coordination.collective_keys`).
"""

from __future__ import annotations

from strategies.keras_support.defects.crashes import CRASHES
from strategies.keras_support.defects.hangs import HANGS
from strategies.keras_support.defects.silent import SILENT
from strategies.keras_support.input.resume import TRAIN_BEGIN
from strategies.keras_support.step.step_functions import PREDICT
from strategies.keras_support.workers.quiet_output import PRINT

FIXES = (*SILENT, *HANGS, *CRASHES)

_WITHOUT_A_ROW = (PREDICT, TRAIN_BEGIN, PRINT)

PATCHES = (*dict.fromkeys(patch for fix in FIXES for patch in fix.patches), *_WITHOUT_A_ROW)
