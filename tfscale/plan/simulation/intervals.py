"""How the length of a job depends on how often it saves, by simulation, and the best interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from strategies.extension import sequence, whole_number
from tfscale.plan.simulation.forecast import JobForecast
from tfscale.plan.simulation.job import TrainingJob
from tfscale.plan.simulation.simulating import check_job, simulate_job

_FROM, _TO, _COUNT = 0.25, 4.0, 13  # of Daly's interval


@dataclasses.dataclass(frozen=True, eq=False)
class IntervalCurve:
    """Forecasts of one job that saves more or less often.

    Attributes:
        forecasts: By steps between saves, ascending. At least three.
        best_every: Steps between saves at which the job is shortest: the minimum of
            `a + b / every + c * every`, fitted to the mean times. The noise of single times moves
            it less than their minimum.
    """

    forecasts: Sequence[JobForecast]
    best_every: float

    def seconds_at(self, every: float) -> float:
        """Returns how long the job is expected to take with so many steps between saves."""
        a, b, c = _fit(self.forecasts)
        return a + b / every + c * every


def interval_curve(
    job: TrainingJob,
    *,
    everys: Sequence[int] | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> IntervalCurve:
    """Simulates a job with several numbers of steps between saves, under the same failures.

    Args:
        job: The job. It has failures, and its saves take time.
        everys: Steps between saves, at least three. None: 13, from a quarter of Daly's interval to
            four times as many.
        repeats: As in `simulate_job`.
        seed: As in `simulate_job`.

    Raises:
        ValueError: If an argument is out of range, or the best interval is not between the smallest
            and the largest of `everys`.

    Example:
        >>> job = TrainingJob(
        ...     steps=200_000, step_seconds=1.0, workers=64,
        ...     saves=tfscale.plan.Saves(60.0, taken_seconds=60.0),
        ...     failures=tfscale.plan.Failures(30 * 86400),
        ... )
        >>> curve = interval_curve(job, repeats=20)
        >>> 0.5 < curve.best_every / job.every < 2
        True
    """
    check_job(job)
    if job.failures is None or job.saves.taken == 0:
        raise ValueError(
            "`job` must have failures, and saves that take time: without them there is no best "
            f"interval. Received: failures={job.failures!r} and saves={job.saves!r}. Give both."
        )
    if everys is None:
        middle = dataclasses.replace(job, saves=dataclasses.replace(job.saves, every=None)).every
        ratios = np.geomspace(_FROM, _TO, _COUNT)
        counts = sorted({min(job.steps, max(1, round(middle * ratio))) for ratio in ratios})
    else:
        counts = sorted({whole_number("everys", each) for each in sequence("everys", everys)})
    if len(counts) < 3:
        raise ValueError(
            f"`everys` must be at least three numbers of steps. Received: everys={counts}. A "
            "training of more steps has more of them."
        )
    forecasts = [
        simulate_job(
            dataclasses.replace(job, saves=dataclasses.replace(job.saves, every=every)),
            repeats=repeats,
            seed=seed,
        )
        for every in counts
    ]
    _, b, c = _fit(forecasts)
    best = math.sqrt(b / c) if b > 0 and c > 0 else math.nan
    if not counts[0] <= best <= counts[-1]:
        raise ValueError(
            "`everys` must have the best number between the smallest and the largest. Received: "
            f"everys={counts}, whose times rise or fall throughout. Choose others, or more repeats."
        )
    return IntervalCurve(forecasts, best)


def _fit(forecasts: Sequence[JobForecast]) -> tuple[float, float, float]:
    """Returns a, b and c of `a + b / every + c * every`, by least squares."""
    every = np.array([forecast.job.every for forecast in forecasts], np.float64)
    scale = float(every.mean())
    terms = np.stack([np.ones_like(every), scale / every, every / scale], axis=1)
    seconds = [forecast.seconds for forecast in forecasts]
    a, b, c = np.linalg.lstsq(terms, seconds, rcond=None)[0]
    return float(a), float(b * scale), float(c / scale)
