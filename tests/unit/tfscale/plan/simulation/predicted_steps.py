"""Predicted steps with round numbers, for plans that are worked out by hand."""

from __future__ import annotations

from tfscale.plan.speed.prediction import StepPrediction


def step(
    strategy: str,
    workers: int,
    seconds: float,
    *,
    replicas: int | None = None,
    high: float | None = None,
) -> StepPrediction:
    """Returns a step of ten rows a replica, of which a tenth is communication."""
    count = workers if replicas is None else replicas
    parts = {"compute": 0.9 * seconds, "communication": 0.1 * seconds, "input": 0, "overhead": 0}
    return StepPrediction(
        strategy=strategy,
        workers=workers,
        replicas=count,
        global_batch_size=10 * count,
        step_seconds=seconds,
        low_seconds=seconds,
        high_seconds=seconds if high is None else high,
        parts=parts,
        efficiency=1.0,
        examples_per_second=10 * count / seconds,
        bottleneck="compute",
        is_extrapolated=False,
        formula="a",
    )
