"""Lines by which a training reports its progress to a harness.

Imports nothing, so that a process can print the first line before its other imports.
"""

BEGIN_LINE = "faults: python runs"
START_LINE = "faults: process "
TOGETHER_LINE = "faults: together"
RESUMED_LINE = "faults: resumed at "
INJECTED_LINE = "faults: the signal came, for "
EPOCHS_LINE = "faults: epochs begin"
STEP_LINE = "faults: step "
MEMORY_LINE = "faults: memory "
OVER_LINE = "faults: fit is over: "
END_LINE = "faults: done in "
RESTART_LINE = r"^tfscale launch: .* Restart in \d"
"""A pattern of the launcher's line."""
