"""What tells a process from a later one with the same number, as Linux's /proc shows it."""

from __future__ import annotations

from pathlib import Path

_STATE, _START = 0, 19
"""Fields 3 and 22 of /proc/PID/stat, behind the name: proc(5)."""


def process_stat(pid: int) -> tuple[str, str] | None:
    """Returns the state of a process and its start time in clock ticks after the boot.

    A killed process is there in the state "Z" until its parent collects it.

    Returns:
        None if there is no such process, or the system does not say.

    Example:
        >>> process_stat(2**40) is None
        True
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name may contain spaces and brackets
    return (fields[_STATE], fields[_START]) if len(fields) > _START else None
