"""The cost of a step under each strategy: its formula, from the laws of steps and of links.

b m are the seconds of the m rows of a replica, a those that rows do not change, G the bytes of the
gradients, P of the parameters, t(n) an all-reduce of n bytes on W workers, and c + d G what a step
of several workers costs beyond that; see `step_law.py` and `link_law.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from strategies.extension import whole_number
from tfscale.plan.speed.exchange import (
    BACKWARD_SHARE,
    Exchange,
    blocking,
    hidden_by_backward,
)
from tfscale.plan.speed.link_law import FORMULA, SOURCE, LinkLaw
from tfscale.plan.speed.measured import MeasuredSpeed

_BFLOAT16_SHARE = 0.5  # of float32, in which gradients travel


@dataclass(frozen=True)
class SpeedSettings:
    """What a plan of the speed is made for.

    Attributes:
        rows: Rows of each replica (weak scaling); None with a global batch size.
        global_batch_size: Rows of all replicas (strong scaling); None with `rows`.
        replicas: Of each worker. Positive.
        every: Steps between averages of local updates. Positive.
        servers: Parameter servers. Positive.
        stages: Devices of a replica that is a pipeline. Positive.
        microbatches: Of a pipeline. Positive.

    Raises:
        ValueError: If a number is not positive, or rows and a global batch size are given.
    """

    rows: int | None = None
    global_batch_size: int | None = None
    replicas: int = 1
    every: int = 16
    servers: int = 1
    stages: int = 4
    microbatches: int = 8

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                whole_number(field.name, value)
        if self.rows is not None and self.global_batch_size is not None:
            raise ValueError(
                "`rows` must be left out with `global_batch_size`. Received: "
                f"rows={self.rows} and global_batch_size={self.global_batch_size}. Rows of a "
                "replica stay, or those of all of them do."
            )


@dataclass(frozen=True)
class Situation:
    """One worker among others, before it communicates.

    Attributes:
        measured: What was measured.
        link: Of the workers; None only for one worker.
        workers: Positive.
        fixed: Seconds of a step that rows do not change.
        compute: Seconds of the rows of a replica.
        settings: Of the plan.
    """

    measured: MeasuredSpeed
    link: LinkLaw | None
    workers: int
    fixed: float
    compute: float
    settings: SpeedSettings


@dataclass(frozen=True)
class Cost:
    """What a step costs.

    Attributes:
        compute: Seconds that grow with the rows.
        fixed: Seconds that do not.
        exchange: The communication.
        devices: Devices of a replica.
    """

    compute: float
    fixed: float
    exchange: Exchange
    devices: int = 1


def _mirrored(at: Situation) -> Cost:
    return Cost(at.compute, at.fixed, blocking(0.0))


def _ring(at: Situation) -> Cost:
    return Cost(at.compute, at.fixed + _around(at), _packs(at, 1.0))


def _compressed(at: Situation) -> Cost:
    return Cost(at.compute, at.fixed + _around(at), _packs(at, _BFLOAT16_SHARE))


def _local_updates(at: Situation) -> Cost:
    if at.link is None:
        return _mirrored(at)
    state, every = at.measured.state_bytes, at.settings.every
    average = at.link.all_reduce(state, at.workers)
    fixed = at.fixed + at.link.around(state / every)
    return Cost(at.compute, fixed, blocking(average / every))


def _parameter_servers(at: Situation) -> Cost:
    if at.link is None:
        return _mirrored(at)
    parameters, gradients = at.measured.parameter_bytes, at.measured.gradient_bytes
    own = at.link.message(parameters) + at.link.message(gradients)
    # A server's link carries what all workers send to it.
    share = at.workers / at.settings.servers
    of_servers = share * max(parameters, gradients) * at.link.seconds_per_byte
    waiting = of_servers - at.compute - at.fixed
    return Cost(at.compute, at.fixed, blocking(max(own, waiting)))


def _pipeline(at: Situation) -> Cost:
    stages, parts = at.settings.stages, at.settings.microbatches
    compute = at.compute / stages * (parts + stages - 1) / parts
    exchange = blocking(_packs(at, 1.0).total)  # the gradients of all microbatches, at the end
    return Cost(compute, at.fixed + _around(at), exchange, devices=stages)


def _sharded(stage: int) -> Callable[[Situation], Cost]:
    def cost(at: Situation) -> Cost:
        if at.link is None:
            return _mirrored(at)
        gathered = at.link.gather(at.measured.parameter_bytes, at.workers)
        times = 2 if stage == 3 else 1  # in the forward pass and again in the backward pass
        exchange = _packs(at, 1.0) + blocking(times * gathered)
        return Cost(at.compute, at.fixed + _around(at), exchange)

    return cost


def _around(at: Situation) -> float:
    return 0.0 if at.link is None else at.link.around(at.measured.gradient_bytes)


def _packs(at: Situation, share: float) -> Exchange:
    """Returns the all-reduces of the gradients, in packs that hold a share of their bytes."""
    link = at.link
    if link is None:
        return blocking(0.0)
    sizes = [share * size for size in at.measured.pack_bytes]
    seconds = [link.all_reduce(size, at.workers) for size in sizes]
    return hidden_by_backward(sizes, seconds, BACKWARD_SHARE * at.compute, link.host_share)


@dataclass(frozen=True)
class Strategy:
    """A strategy that is predicted.

    Attributes:
        cost: Its formula.
        formula: The same in words.
        is_measurable: Whether what is measured is what it does, so that only sizes are
            extrapolated. Otherwise parts of it were never measured.
        has_one_worker: Whether it is for one worker only.
    """

    cost: Callable[[Situation], Cost]
    formula: str
    is_measurable: bool = False
    has_one_worker: bool = False


ALL_REDUCE = f"t(n) = {FORMULA} ({SOURCE})"
"""The formula that the others use."""

STRATEGIES: Mapping[str, Strategy] = {
    "mirrored": Strategy(
        _mirrored, "a + b m, with the a and b of so many replicas (fitted)", True, True
    ),
    "ring": Strategy(
        _ring,
        "a + b m + c + d G + what the backward pass does not hide of t(G) in packs",
        True,
    ),
    "compressed": Strategy(
        _compressed,
        "as ring, with gradients in bfloat16: t(G / 2); not offered by tfscale yet",
    ),
    "local_updates": Strategy(
        _local_updates,
        "a + b m + c + (t(S) + d S) / H for the S bytes of parameters, slots and statistics, "
        "averaged every H steps (Stich 2019, arXiv:1805.09767)",
        True,
    ),
    "parameter_servers": Strategy(
        _parameter_servers,
        "the larger of a + b m + 2 alpha + (P + G) beta, and W max(P, G) beta / servers, which "
        "share a link in each direction (Li et al. 2014, OSDI, section 4; Hockney 1994); a step is "
        "one of each worker",
    ),
    "pipeline": Strategy(
        _pipeline,
        "a + (b m / S) (M + S - 1) / M + c + d G + t(G) for S stages and M microbatches (Huang et "
        "al. 2019, arXiv:1811.06965, section 2.3), without what stages send",
    ),
    **{
        f"sharded_{stage}": Strategy(
            _sharded(stage),
            f"as ring + {'twice ' if stage == 3 else ''}t(P) / 2, the gather of parameters "
            "(Rajbhandari et al. 2020, arXiv:1910.02054, section 7; gradients are all-reduced "
            "whole, because TensorFlow has no reduce-scatter)",
        )
        for stage in (1, 2, 3)
    },
}
