"""What is predicted of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StepPrediction:
    """The time of a step under one strategy on one size of cluster.

    Attributes:
        strategy: Its name, such as "mirrored" or "ring".
        workers: Processes that compute. Positive.
        replicas: Over all workers. Positive.
        global_batch_size: Examples of a step over all replicas. Positive.
        step_seconds: Time of a step. Positive.
        low_seconds: Lower end of the interval that the time is expected in.
        high_seconds: Upper end. Both are near `step_seconds` where all sizes were measured.
        parts: Seconds of a step by what they are spent on; they add up to `step_seconds`:
            "compute", "communication" (what is not hidden behind computing), "input" (waiting for
            data) and "overhead".
        efficiency: Examples a second by replica, divided by those of one replica that computes
            the same rows; by device for a pipeline. From 0 to about 1.
        examples_per_second: Over all replicas. Positive.
        bottleneck: What limits the speed: a name of `parts`.
        is_extrapolated: Whether a size lies outside of what was measured.
        formula: The formula of the step time, with its source.
    """

    strategy: str
    workers: int
    replicas: int
    global_batch_size: int
    step_seconds: float
    low_seconds: float
    high_seconds: float
    parts: Mapping[str, float]
    efficiency: float
    examples_per_second: float
    bottleneck: str
    is_extrapolated: bool
    formula: str
