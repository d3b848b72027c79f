"""What a sweep has found: a table, JSON, and the command with the best flags."""

from __future__ import annotations

import math
import shlex
from typing import Any

from tfscale.sweep.plan import Plan

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_ERROR_WIDTH = 60


def rows(plan: Plan, study: Any) -> list[dict[str, Any]]:
    """Returns the trials as plain values, the best first; those without a value at the end.

    Args:
        plan: The sweep.
        study: The `optuna.Study`.
    """
    found = [
        {
            "trial": trial.number,
            "state": _STATES.get(trial.state.name, "not finished"),
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "last_step": trial.user_attrs.get("last_step"),
            "last_value": trial.user_attrs.get("last_value", trial.value),
            "seconds": trial.user_attrs.get("seconds"),
            "flags": {axis.name: trial.params.get(axis.name) for axis in plan.space},
            "error": trial.user_attrs.get("error"),
            "folder": str(plan.trial_folder(trial.number)),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    sign = -1.0 if plan.direction == "maximize" else 1.0
    order = ("complete", "pruned", "failed", "not finished")

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        value = row["last_value"]
        key = math.inf if value is None or value != value else sign * value
        return (order.index(row["state"]), key, row["trial"])

    return sorted(found, key=place)


def best(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the best of `rows`, or None if no trial was completed."""
    return found[0] if found and found[0]["state"] == "complete" else None


def best_command(plan: Plan, found: list[dict[str, Any]]) -> str | None:
    """Returns the command with the best flags, for a shell; None if no trial was completed."""
    row = best(found)
    if row is None:
        return None
    command = plan.trial_command(row["flags"], plan.folder / "best")
    if plan.num_workers is not None:
        command = ["tfscale", "launch", f"--num_workers={plan.num_workers}", "--", *command]
    return shlex.join(command)


def as_json(plan: Plan, study: Any) -> dict[str, Any]:
    """Returns everything as plain values. Numbers that JSON does not have are None."""
    found = rows(plan, study)
    for row in found:
        for name in ("value", "last_value"):
            if row[name] is not None and not math.isfinite(row[name]):
                row[name] = None
    return {
        "goal": plan.goal,
        "direction": plan.direction,
        "best": best(found),
        "command": best_command(plan, found),
        "trials": found,
    }


def table(plan: Plan, study: Any) -> str:
    """Returns the table of all trials, and the command with the best flags."""
    found = rows(plan, study)
    names = [axis.name for axis in plan.space]
    head = ("trial", "state", plan.goal, "step", "seconds", *names, "")
    lines = [head, *(_cells(row, names) for row in found)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if k in (1, len(head) - 1) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    command = best_command(plan, found)
    if command is None:
        return f"{text}\n\nno trial was completed"
    row = found[0]
    return f"{text}\n\nbest: trial {row['trial']}, {plan.goal} {_short(row['value'])}\n{command}"


def _cells(row: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    flags = (_short(row["flags"][name]) for name in names)
    error = row["error"] or ""
    if len(error) > _ERROR_WIDTH:
        error = f"... {error[-_ERROR_WIDTH:]}"
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    step, value = _short(row["last_step"]), _short(row["last_value"])
    return (str(row["trial"]), row["state"], value, step, seconds, *flags, error)


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
