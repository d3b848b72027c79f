"""Predicts steps from what was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from strategies.extension import sequence, whole_number
from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.measured import MeasuredSpeed
from tfscale.plan.speed.prediction import StepPrediction
from tfscale.plan.speed.strategies import ALL_REDUCE, STRATEGIES, Cost, Situation, SpeedSettings

COUNTS = (1, 2, 4, 16, 64, 256, 1024, 4096)
"""Workers that are predicted unless others are asked for."""
REPLICAS = (1, 2, 4, 8)
"""Replicas of one worker that are predicted for "mirrored"."""


class SpeedPredictor:
    """Predicts steps of one model on one kind of cluster.

    Args:
        measured: What was measured.
        settings: What the plan is for.
        link: The link between workers, if it is another than the measured one.

    Raises:
        ValueError: If too little was measured.

    Example:
        >>> from tfscale.plan.speed.measured import Steps
        >>> steps = (Steps(1, 10, (0.2,)), Steps(1, 20, (0.3,)))
        >>> measured = MeasuredSpeed("mine:build", 10, (4,), 4, 12, steps, (), (), None, 2, {})
        >>> round(SpeedPredictor(measured, SpeedSettings()).predict("mirrored", 1).step_seconds, 6)
        0.2
    """

    def __init__(
        self, measured: MeasuredSpeed, settings: SpeedSettings, link: LinkLaw | None = None
    ) -> None:
        self._measured = measured
        self._settings = settings
        self._steps = measured.step_law()
        self._link = measured.link_law() if link is None else link

    @property
    def has_link(self) -> bool:
        """Whether several workers can be predicted."""
        return self._link is not None

    def predict(
        self, strategy: str, workers: int, replicas_of_worker: int | None = None
    ) -> StepPrediction:
        """Predicts a step.

        Args:
            strategy: A name of `STRATEGIES`.
            workers: Positive; 1 for "mirrored".
            replicas_of_worker: Positive; None for those of the settings.

        Raises:
            ValueError: If the strategy does not exist or not for so many workers, the batch is too
                small, or no link is known.
        """
        _check_strategy(strategy)
        workers = whole_number("workers", workers, at_least=0)
        kind, settings = STRATEGIES[strategy], self._settings
        if replicas_of_worker is not None:
            settings = dataclasses.replace(settings, replicas=replicas_of_worker)
        if workers < 1 or (kind.has_one_worker and workers > 1):
            rule = "1 for mirrored" if workers > 1 else "at least 1"
            raise ValueError(
                f"`workers` must be {rule}. Received: workers={workers}. Several are: ring."
            )
        if workers > 1 and self._link is None:
            raise ValueError(
                "`link` must be known for several workers. Received: measurements of one worker. "
                "Measure under `tfscale launch --num_workers=2`, or pass --gbits and --latency_us."
            )
        replicas = workers * settings.replicas
        examples = settings.global_batch_size or replicas * (settings.rows or self._measured.rows)
        if examples < replicas:
            raise ValueError(
                "`global_batch_size` must be at least the number of replicas. Received: "
                f"global_batch_size={examples} for {replicas} replicas."
            )
        rows = math.ceil(examples / replicas)  # the replica with most rows is waited for
        fixed, compute = self._steps.parts(settings.replicas, rows)
        at = Situation(
            measured=self._measured,
            link=self._link if workers > 1 else None,
            workers=workers,
            fixed=fixed,
            compute=compute,
            settings=settings,
        )
        cost = kind.cost(at)
        is_extrapolated = not self._is_measured(strategy, at, rows)
        low, high = self._interval(strategy, at, cost, is_extrapolated)
        parts = {
            "compute": cost.compute,
            "communication": cost.exchange.exposed,
            "input": 0.0,
            "overhead": cost.fixed,
        }
        busy = sum(parts.values())
        rate = self._measured.input_rows_per_second
        if rate is not None:
            parts["input"] = max(0.0, rows * settings.replicas / rate - busy)
        step = busy + parts["input"]
        by_one = rows / sum(self._steps.parts(1, rows))
        speed = examples / step
        return StepPrediction(
            strategy=strategy,
            workers=workers,
            replicas=replicas,
            global_batch_size=examples,
            step_seconds=step,
            low_seconds=min(step, low + parts["input"]),
            high_seconds=max(step, high + parts["input"]),
            parts=parts,
            efficiency=speed / (replicas * cost.devices) / by_one,
            examples_per_second=speed,
            bottleneck=max(parts, key=lambda name: parts[name]),
            is_extrapolated=is_extrapolated,
            formula=kind.formula if kind.has_one_worker else f"{kind.formula}; {ALL_REDUCE}",
        )

    def all(
        self, names: Sequence[str] | None = None, counts: Sequence[int] = COUNTS
    ) -> Iterator[StepPrediction]:
        """Yields predictions of strategies on numbers of workers, without what cannot be.

        Left out are several workers of "mirrored", and more replicas than the global batch has
        rows.

        Args:
            names: Of `STRATEGIES`; None for all of them.
            counts: Numbers of workers; "mirrored" is for one worker, with `REPLICAS`.

        Raises:
            ValueError: If a name is unknown, or no link is known and a number is above 1.
        """
        batch = self._settings.global_batch_size
        for name in STRATEGIES if names is None else sequence("names", names):
            _check_strategy(name)
            if STRATEGIES[name].has_one_worker:
                own = {*REPLICAS, self._settings.replicas} if 1 in counts else set()
                for replicas in sorted(own):
                    if batch is None or batch >= replicas:
                        yield self.predict(name, 1, replicas)
                continue
            for workers in counts:
                if batch is None or batch >= workers * self._settings.replicas:
                    yield self.predict(name, workers)

    def _is_measured(self, strategy: str, at: Situation, rows: int) -> bool:
        if not self._steps.is_measured(at.settings.replicas, rows):
            return False
        if at.link is None:
            return strategy != "pipeline"
        link = at.link
        return (
            STRATEGIES[strategy].is_measurable
            and at.workers <= link.workers
            and max(self._measured.pack_bytes, default=0) <= link.largest_bytes
        )

    def _interval(
        self, strategy: str, at: Situation, cost: Cost, is_extrapolated: bool
    ) -> tuple[float, float]:
        """Returns the ends of the interval, without input.

        Steps deviate by the error of their fit or by what measured steps deviate, whichever is
        more. Of several workers the slowest is waited for: the largest of W normal deviations is
        about sqrt(2 ln W) standard deviations. A latency that was measured on few workers may be
        that of a call and not of each message; and nothing may be hidden.
        """
        error = max(self._steps.relative_error, self._steps.deviation)
        own = cost.compute + cost.fixed
        low, high = own * (1 - min(1.0, error)), own * (1 + error)
        link = at.link
        if link is None:
            return low, high
        if is_extrapolated and strategy != "parameter_servers":
            high += own * self._steps.deviation * math.sqrt(2 * math.log(at.workers))
        fewest = cost.exchange.exposed
        if at.workers > link.workers > 1:
            by_call = link.latency * (link.workers - 1) / (at.workers - 1)
            other = dataclasses.replace(at, link=dataclasses.replace(link, latency=by_call))
            fewest = STRATEGIES[strategy].cost(other).exchange.exposed
        low += fewest * (1 - min(1.0, link.relative_error))
        return low, high + cost.exchange.total * (1 + link.relative_error)


def _check_strategy(name: str) -> None:
    if name not in STRATEGIES:
        raise ValueError(
            f"`strategy` must be of {', '.join(STRATEGIES)}. Received: strategy={name!r}."
        )
