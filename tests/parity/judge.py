"""Compares the results of N replicas with those of one device.

The tolerances were fixed before the first sweep. A whole run in float64 rounds to about 1e-15, or
1e-12 if an optimizer divides by small numbers; a wrong weight or a clipped part differs by 1e-3. In
float32 rounding differs between models by five orders of magnitude, so it is measured for each, by
a run on one device with the rows permuted inside the batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.parity.children import Findings, Outcome
from tests.parity.configuration import Configuration
from tfscale.verify.comparison import difference

FLOAT64 = 1e-9
TIMES_CONTROL = 10.0
FLOAT32_FLOOR = 2e-6
"""Sixteen roundings: a control of one or two rows may happen to be exact."""
HALF_FLOOR = {"mixed_float16": 4 * 2.0**-10, "mixed_bfloat16": 4 * 2.0**-7}
"""Groups that are computed in half precision: outputs and their metrics."""

EXACT = ("iterations", "inner_iterations", "epochs", "batch_logs_steps")
_COMPUTED = ("history", "evaluate", "predict", "batch_logs")


@dataclass(frozen=True)
class Verdict:
    """Whether a case matched.

    Attributes:
        kind: "matched", "wrong", "crashed", "hung", or "unjudged": its reference failed.
        difference: Largest relative difference over all that was compared.
        where: Where that difference was.
        detail: What to read if it did not match.
    """

    kind: str
    difference: float = 0.0
    where: str = ""
    detail: str = ""


def judge(
    configuration: Configuration, reference: Outcome, control: Outcome | None, outcome: Outcome
) -> Verdict:
    """Compares an outcome with the reference, and with the control if there is one.

    Args:
        configuration: What was trained; its precision decides the tolerance.
        reference: Stock Keras on one device.
        control: The same with permuted rows; None in float64.
        outcome: Under the strategy.
    """
    for name, run in (("reference", reference), ("control", control)):
        if run is not None and run.kind != "finished":
            return Verdict("unjudged", detail=f"{name} {run.kind}: {run.detail}")
    if outcome.kind != "finished":
        return Verdict(outcome.kind, detail=outcome.detail)
    expected = reference.findings[0]
    limits = _limits(configuration, expected, control.findings[0] if control else None)
    verdicts = [
        compare(expected, found, limits, has_batch_logs=configuration.num_workers == 1)
        for found in outcome.findings
    ]
    return max(verdicts, key=lambda v: (v.kind != "matched", v.difference))


def compare(
    expected: Findings, found: Findings, limits: dict[str, float], *, has_batch_logs: bool
) -> Verdict:
    """Compares findings name by name.

    Args:
        expected: Of the reference.
        found: Of one worker.
        limits: Largest relative difference by group, the part of a name before the slash.
        has_batch_logs: Whether the logs after each step are compared. With several workers they
            are refreshed every few steps only, by design.
    """
    expected = _at_reported_steps(expected, found)
    if not has_batch_logs:
        expected = {k: v for k, v in expected.items() if not k.startswith("batch_logs")}
        found = {k: v for k, v in found.items() if not k.startswith("batch_logs")}
    if expected.keys() != found.keys():
        names = sorted(expected.keys() ^ found.keys())
        return Verdict("wrong", np.inf, names[0], f"only one of both has {', '.join(names)}")
    problems, worst, where = [], 0.0, ""
    for name, value in expected.items():
        distance = difference(value, found[name])
        limit = 0.0 if _group(name) in EXACT else limits[_group(name)]
        if distance > worst:
            worst, where = distance, name
        if not distance <= limit:
            problems.append((distance / max(limit, 1e-30), name, distance, limit))
    lines = [
        f"{name}: {d:.2e}, at most {limit:.2e}" for _, name, d, limit in sorted(problems)[::-1]
    ]
    return Verdict("wrong" if problems else "matched", worst, where, "\n".join(lines[:8]))


def _limits(
    configuration: Configuration, expected: Findings, control: Findings | None
) -> dict[str, float]:
    groups = {_group(name) for name in expected}
    if control is None:
        return dict.fromkeys(groups, FLOAT64)
    limits = {}
    for group in groups:
        names = [name for name in expected if _group(name) == group]
        measured = max(difference(expected[name], control[name]) for name in names)
        floor = FLOAT32_FLOOR
        if group in _COMPUTED:
            floor = HALF_FLOOR.get(configuration.precision, FLOAT32_FLOOR)
        limits[group] = max(TIMES_CONTROL * measured, floor)
    return limits


def _group(name: str) -> str:
    return name.partition("/")[0]


def _at_reported_steps(expected: Findings, found: Findings) -> Findings:
    """Selects the reference's logs of the steps at which the other run has logs too."""
    if "batch_logs_steps" not in expected or "batch_logs_steps" not in found:
        return expected
    places = np.searchsorted(expected["batch_logs_steps"], found["batch_logs_steps"])
    return {
        name: value[places] if name.startswith("batch_logs") else value
        for name, value in expected.items()
    }
