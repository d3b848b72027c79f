"""Every defect of Keras under tf.distribute that is fixed or refused here.

`tfscale doctor` prints this table. A fix may go when the condition in its `remove_when` holds.
What needs no patch is not in it: keys of several strategies
(`strategies.coordination.collective_keys`).
"""

from __future__ import annotations

from strategies.keras_support.defects.crashes import CRASHES, HANGS
from strategies.keras_support.defects.silent import SILENT

FIXES = (*SILENT, *HANGS, *CRASHES)
"""All fixes, one for each row of the table of defects."""
