"""The lines by which a training tells a harness where it is; imports nothing, so that a process can
print the first one before it imports anything."""

BEGIN_LINE = "faults: python runs"
START_LINE = "faults: process "
TOGETHER_LINE = "faults: together"
RESUMED_LINE = "faults: resumed at "
INJECTED_LINE = "faults: the signal came, for "
STEP_LINE = "faults: step "
MEMORY_LINE = "faults: memory "
END_LINE = "faults: done in "
RESTART_LINE = r"^tfscale launch: .* Restart \d+ in"
"""The launcher's, as a pattern."""
