"""Where the time of a worker goes: seconds by phase, each second in one of them."""

from __future__ import annotations

from collections.abc import Mapping

PHASES = (
    *("compile", "input_wait", "compute", "communication", "callbacks", "checkpoint", "restore"),
    "evaluation",
)
"""Phases in which Monitor divides wall time.

"communication" is what a step waits in collectives for others and for its data to travel: what
computation hides is not in it. "compile" is the first execution, but for its input and
communication, and counting operations. "callbacks" is all other Python between steps."""

_OF_PROGRESS = {
    "trace": "compile",
    "input": "input_wait",
    "step": "compute",
    "collective": "communication",
    "callbacks": "callbacks",
    "save": "checkpoint",
    "restore": "restore",
    "evaluate": "evaluation",
    "predict": "callbacks",  # of another callback
}


def by_phase(
    seconds: Mapping[str, float],
    before: Mapping[str, float],
    *,
    is_first: bool,
    is_clock_set: bool = False,
) -> dict[str, float]:
    """Returns the seconds of each phase between two moments.

    Args:
        seconds: Of the phases of `strategies.progress`, at the end.
        before: The same at the beginning.
        is_first: Whether the execution in between was the first one.
        is_clock_set: Whether the host's clock was set in between. TensorFlow's marks in the graph
            read it, so what is inside of an execution is not divided then.
    """
    found = dict.fromkeys(PHASES, 0.0)
    for phase in _OF_PROGRESS:
        is_marked = is_clock_set and phase in ("input", "collective")
        own = "step" if is_marked else phase
        of_first = is_first and own == "step"
        found["compile" if of_first else _OF_PROGRESS[own]] += seconds[phase] - before[phase]
    return found
