"""How long a step takes when all workers wait for the slowest: order statistics, by numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strategies.extension import number, one_of, whole_number

Floats = npt.NDArray[np.float64]

LOGNORMAL, EXPONENTIAL = "lognormal", "exponential"
LARGEST_SPREAD, LARGEST_FACTOR = 2.0, 1000.0
"""The tails of more are too long for bins of equal width: means would be wrong by percents."""
_BINS = 1 << 15
_BEYOND = 1e-10  # what the largest value of the grid leaves out, of the slowest worker
_MOST_DRAWN = 30  # of more rounds the sum is drawn at once


@dataclass(frozen=True)
class Stragglers:
    """How the time of one step differs from worker to worker and from step to step.

    A worker's own time is `typical * x`, where x has mean 1 and a standard deviation of `spread`,
    and is `slow_factor` times as long in a part `slow_share` of all steps. All are independent.

    Attributes:
        spread: Standard deviation of a worker's step over its mean. From 0 to 2; at most 1 with
            "exponential".
        shape: "lognormal", or "exponential": a constant and an exponential time, as in Lee et al.
            2018, "Speeding up distributed machine learning using codes", arXiv:1512.02673.
        slow_share: Part of a worker's steps that are slow. From 0 to 1.
        slow_factor: How many times as long a slow step takes. From 1 to 1000.

    Raises:
        ValueError: If a value is out of range.

    Example:
        The mean of the slowest of 100 exponential times is the harmonic number of 100:

        >>> slowest = Stragglers(spread=1.0, shape="exponential").rounds(workers=100)
        >>> round(slowest.mean, 2), round(sum(1 / n for n in range(1, 101)), 2)
        (5.19, 5.19)
    """

    spread: float = 0.0
    shape: str = LOGNORMAL
    slow_share: float = 0.0
    slow_factor: float = 1.0

    def __post_init__(self) -> None:
        one_of("shape", self.shape, (LOGNORMAL, EXPONENTIAL))
        rule, most = f"from 0 to {LARGEST_SPREAD:g}", LARGEST_SPREAD
        if self.shape == EXPONENTIAL:
            rule, most = 'from 0 to 1 with shape="exponential"', 1.0
        cure = "Pass the standard deviation of a worker's step, over its mean."
        spread = number("spread", self.spread, rule, lambda value: 0 <= value <= most, cure=cure)
        object.__setattr__(self, "spread", spread)
        cure = "Pass the part of the steps that are slow."
        share = number(
            "slow_share", self.slow_share, "from 0 to 1", lambda value: 0 <= value <= 1, cure=cure
        )
        object.__setattr__(self, "slow_share", share)
        cure = "Pass how many times as long a slow step takes."
        factor = number(
            "slow_factor",
            self.slow_factor,
            f"from 1 to {LARGEST_FACTOR:g}",
            lambda value: 1 <= value <= LARGEST_FACTOR,
            cure=cure,
        )
        object.__setattr__(self, "slow_factor", factor)

    @property
    def own_mean(self) -> float:
        """The mean of a worker's own step, over that of a typical one."""
        return 1 - self.slow_share + self.slow_share * self.slow_factor

    def rounds(self, *, workers: int, steps: int = 1) -> Rounds:
        """Returns how long rounds take in which workers meet: the maximum over them of their sums.

        Args:
            workers: Workers that meet. Positive.
            steps: Steps of each between two meetings: 1 if gradients are reduced in each step,
                more with local updates. Positive.

        Raises:
            ValueError: If an argument is out of range.
        """
        workers = whole_number("workers", workers)
        steps = whole_number("steps", steps)
        is_even = self.spread == 0 and (self.slow_share in (0, 1) or self.slow_factor == 1)
        if is_even:
            whole = steps * self.own_mean
            return Rounds(whole, whole, 0.0, np.array([whole, whole]), np.array([0.0, 1.0]))
        edges, below = self._sum_below(workers, steps)
        with np.errstate(divide="ignore"):
            slowest = np.exp(workers * np.log(below))
        parts = np.diff(slowest, prepend=0.0)
        parts[-1] += 1 - slowest[-1]
        middles = edges - (edges[1] - edges[0]) / 2
        mean = float(parts @ middles)
        deviation = math.sqrt(max(0.0, float(parts @ middles**2) - mean**2))
        return Rounds(steps * self.own_mean, mean, deviation, middles, slowest)

    def _sum_below(self, workers: int, steps: int) -> tuple[Floats, Floats]:
        """Returns values, and the probability that the sum of a worker's steps is not above each.

        Bins of equal width hold the probabilities of one step. Those of the sum are their
        convolution, by Fourier transforms.
        """
        rare = _BEYOND / (workers * steps)
        own = self.own_mean
        second = (1 - self.slow_share + self.slow_share * self.slow_factor**2) * (
            1 + self.spread**2
        )
        longest = self.slow_factor if self.slow_share > 0 else 1.0
        deviation = math.sqrt(max(0.0, second - own**2))
        largest = longest * self._exceeded_by(rare) + (steps - 1) * own
        largest += 7 * deviation * math.sqrt(steps - 1)
        edges = np.linspace(0, largest, _BINS + 1)[1:]
        below = self._below(edges)
        if steps == 1:
            return edges, below
        parts = np.diff(below, prepend=0.0)
        parts /= parts.sum()
        # Twice the length: what the transform wraps around must not reach the lower half.
        power = np.fft.rfft(parts, 2 * _BINS) ** steps
        parts = np.clip(np.fft.irfft(power, 2 * _BINS)[:_BINS], 0.0, None)
        # Sums of middles of bins lie half a bin higher for each further step. What is left is the
        # difference between a step's mean and that of its bins.
        width = edges[1] - edges[0]
        middle = np.diff(below, prepend=0.0) @ (edges - width / 2) / below[-1]
        shifted = edges + (steps - 1) * width / 2 + steps * (own - middle)
        return shifted, np.minimum(np.cumsum(parts) / parts.sum(), 1.0)

    def _below(self, values: Floats) -> Floats:
        """Returns the probability that a step takes at most so long."""
        usual = self._usual_below(values)
        if self.slow_share == 0:
            return usual
        slow = self._usual_below(values / self.slow_factor)
        return (1 - self.slow_share) * usual + self.slow_share * slow

    def _usual_below(self, values: Floats) -> Floats:
        if self.spread == 0:
            return (values >= 1).astype(np.float64)
        if self.shape == EXPONENTIAL:
            excess = np.maximum(values - (1 - self.spread), 0.0) / self.spread
            return -np.expm1(-excess)
        sigma = math.sqrt(math.log1p(self.spread**2))
        z = (np.log(values) + sigma**2 / 2) / (sigma * math.sqrt(2))
        above = np.array([math.erfc(each) for each in z]) / 2
        return 1 - above

    def _exceeded_by(self, part: float) -> float:
        """Returns a time that a usual step exceeds with at most this probability."""
        if self.spread == 0:
            return 1.0 + 1e-9
        if self.shape == EXPONENTIAL:
            return 1 - self.spread - self.spread * math.log(part)
        sigma = math.sqrt(math.log1p(self.spread**2))
        z = math.sqrt(-2 * math.log(part))  # above the quantile of a normal distribution
        return math.exp(sigma * z - sigma**2 / 2)


@dataclass(frozen=True, eq=False)
class Rounds:
    """How long the slowest worker takes from one meeting to the next, over a typical step.

    Attributes:
        own_mean: The mean of a worker's own time. Shorter than `mean`: the rest is waiting.
        mean: The mean of the slowest.
        deviation: Its standard deviation.
        values: Times, ascending.
        below: The probability that the slowest does not take longer than each.
    """

    own_mean: float
    mean: float
    deviation: float
    values: Floats
    below: Floats

    def sums(self, random: np.random.Generator, shape: tuple[int, ...], count: float) -> Floats:
        """Draws sums of rounds.

        Up to 30 rounds are drawn one by one. Of more the sum is drawn from the gamma distribution
        with its mean and variance, which is all that matters of it by then.

        Args:
            random: Where random numbers come from.
            shape: Of the result.
            count: Rounds of each sum; of the last one a part. Positive.
        """
        if self.deviation == 0:
            return np.full(shape, count * self.mean)
        if count <= _MOST_DRAWN:
            drawn = np.interp(random.random((*shape, math.ceil(count))), self.below, self.values)
            drawn[..., -1] *= count - math.floor(count) or 1.0
            return np.asarray(drawn.sum(axis=-1))
        variation = self.deviation**2 / (count * self.mean**2)
        return random.gamma(1 / variation, count * self.mean * variation, shape)
