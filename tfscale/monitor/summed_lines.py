"""Two neighbouring lines of steps as one, where they could not be written one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SUMS = ("steps", "seconds", "examples", "flops", "collective_bytes", "clock_was_set_by")
_SUMS_BY_NAME = ("phases", "network")


def summed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the line that covers the time of both.

    What a line counts is added up; rates are those of the whole; all else is of the later line.

    Args:
        before: The values of a line of steps by name.
        after: Those of the next one.

    Example:
        >>> both = summed(
        ...     {"steps": 2, "seconds": 1.0, "examples": 8, "phases": {"compute": 1.0}},
        ...     {"steps": 1, "seconds": 3.0, "examples": 4, "phases": {"compute": 3.0}},
        ... )
        >>> both["steps"], both["phases"], both["examples_per_second"]
        (3, {'compute': 4.0}, 3.0)
    """
    found = {**before, **after}
    for name in _SUMS:
        if name in found:
            found[name] = before.get(name, 0) + after.get(name, 0)
    for name in _SUMS_BY_NAME:
        if name in found:
            found[name] = _added(before.get(name, {}), after.get(name, {}))
    seconds = found["seconds"]
    found["examples_per_second"] = found["examples"] / seconds if seconds > 0 else 0.0
    if "utilization" in found:
        parts = [each.get("utilization", 0.0) * each["seconds"] for each in (before, after)]
        found["utilization"] = sum(parts) / seconds if seconds > 0 else 0.0
    if "energy" in found:
        found["energy"] = _energy(before.get("energy", {}), after.get("energy", {}))
    if "energy_unread" not in after:
        found.pop("energy_unread", None)
    return found


def _added(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: before.get(name, 0) + after.get(name, 0) for name in {**before, **after}}


def _energy(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    found = {**before, **after}
    for device in before.keys() & after.keys():
        joules = before[device]["joules"] + after[device]["joules"]
        found[device] = {**after[device], "joules": joules}
    return found
