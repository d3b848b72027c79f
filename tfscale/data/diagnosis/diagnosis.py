"""Names what limits a training, from the figures: the input and its stage, or the model.

Two estimates are compared: the median of what each round shows, and what the shortest rounds show,
which other programs disturbed least. An input is named as the limit only if both say so.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any

from tfscale.data.diagnosis.advice import advice_for
from tfscale.data.diagnosis.figures import Figures, Rounds

WAITING_PART = 0.1
"""Training is input-bound if at least this part of its time is lost to the input."""
LARGEST_TINY_BATCH = 32
"""Batches of more examples are not called too small."""
FAST_SECONDS = 0.001
"""An input that takes less than this a step has no slow stage, and a training step that takes less
does not gain from a faster one."""

_HIDDEN = 0.7  # An input that takes less than this part of a step is hidden by reading ahead.
_SHARING_PART = (
    0.25  # The part that it may cost then, by using the processors that the model needs.
)
_DOMINANT = 0.4  # A stage with at least this part of the input's time is named without reserve.
_FEW_TIMES = 3.0  # `larger_by` times as many examples in less than this: the rest is overhead.


@dataclass(frozen=True)
class Diagnosis:
    """What limits a training.

    Attributes:
        limit: "input"; "compute", if the model is the limit; "processors", if the input would be
            fast enough but takes processors from the model; "overhead", if batches are too small;
            "uncertain", if rounds differ too much; "unknown", if there is no model and the input
            has a slowest stage; "none", if nothing is slow.
        stage: Name of the stage that costs most, "transfer", or "".
        is_certain: Whether the figures agree.
        waiting: The part of a training step that is lost to the input, in [0, 1]; None without a
            model.
        text: One sentence with the figures.
        advice: What would help, most effective first. Empty if the input is not the limit.
    """

    limit: str
    stage: str
    is_certain: bool
    waiting: float | None
    text: str
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return dataclasses.asdict(self)


def diagnosed(figures: Figures) -> Diagnosis:
    """Names what limits a training.

    Args:
        figures: At least one round.
    """
    return _of_training(figures) if figures.training else _of_input(figures)


def _of_training(figures: Figures) -> Diagnosis:
    usual = 1 - _ratio(figures.model, figures.training)
    best = 1 - min(figures.model) / min(figures.training)
    waiting = max(0.0, usual)
    times = f"{_ms(figures.training)} a step, {_ms(figures.model)} with a batch in memory"
    alone = min(figures.total)
    is_sharing = alone < _HIDDEN * min(figures.model)
    is_short = min(figures.training) < FAST_SECONDS
    is_negligible = alone < WAITING_PART * min(figures.model)  # it cannot cost more than it takes
    least = _SHARING_PART if is_sharing else WAITING_PART
    if is_short or is_negligible or min(usual, best) < least:
        if _is_overhead(figures.model, figures.model_larger, figures):
            return _of_overhead(figures, waiting, times)
        if is_negligible or max(usual, best) < WAITING_PART:
            text = f"compute-bound: the input is not the limit ({times})"
            return Diagnosis("compute", "", True, waiting, text, ())
        if is_short:
            text = f"a step is too short to gain from the input: {times}"
            return Diagnosis("none", "", True, waiting, text, ())
        if is_sharing:
            text = f"compute-bound: the input alone takes {1e3 * alone:.3g} ms a step ({times})"
            return Diagnosis("compute", "", max(usual, best) < least, waiting, text, ())
        part = (
            f"{max(0.0, best):.0%} of the time in the shortest rounds, {waiting:.0%} in the usual"
        )
        text = f"uncertain, because rounds differ: the input costs {part} ({times})"
        return Diagnosis("uncertain", "", False, waiting, text, ())
    if _is_overhead(figures.total, figures.larger, figures):
        stage, is_clear, why = "", True, _tiny(figures)
        advice: tuple[str, ...] = (_larger_batch(figures),)
    else:
        stage, is_clear, why, advice = _slowest(figures)
    if is_sharing:
        text = (
            f"input and model share processors: {waiting:.0%} of the time is lost to the input, "
            f"which alone takes {1e3 * alone:.3g} ms a step ({times}); {why}"
        )
        return Diagnosis("processors", stage, is_clear, waiting, text, advice)
    text = f"input-bound: {waiting:.0%} of the time waits for input ({times}); {why}"
    return Diagnosis("input", stage, is_clear, waiting, text, advice)


def _of_overhead(figures: Figures, waiting: float, times: str) -> Diagnosis:
    ratio = _ratio(figures.model_larger, figures.model)
    text = (
        f"batches are too small: {figures.larger_by} times as many examples take only {ratio:.1f} "
        f"times as long, so a step of {figures.batch_size} is mostly overhead ({times})"
    )
    return Diagnosis("overhead", "", True, waiting, text, (_larger_batch(figures),))


def _of_input(figures: Figures) -> Diagnosis:
    total = statistics.median(figures.total)
    rate = f"{figures.batch_size / total:,.0f} examples a second, {_ms(figures.total)} a step"
    if _is_overhead(figures.total, figures.larger, figures):
        text = f"{_tiny(figures)} ({rate})"
        return Diagnosis("overhead", "", True, None, text, (_larger_batch(figures),))
    if min(figures.total) < max(FAST_SECONDS, 3 * min(figures.memory)):
        text = f"no stage is slow: {rate}; a batch in memory takes {_ms(figures.memory)}"
        return Diagnosis("none", "", True, None, text, ())
    stage, is_clear, why, advice = _slowest(figures)
    text = (
        f"{why}; {rate}: it limits a model whose step takes less. Pass --model to measure whether "
        "yours does"
    )
    return Diagnosis("unknown", stage, is_clear, None, text, advice)


def _slowest(figures: Figures) -> tuple[str, bool, str, tuple[str, ...]]:
    """Returns the stage that costs most, whether it is clear, a phrase, and the advice."""
    transfer, total = min(figures.transfer, default=0.0), min(figures.total)
    if transfer > total:
        why = (
            f"the slowest stage is transfer: copying {figures.batch_bytes / 2**20:.3g} MiB to the "
            f"replicas takes {_ms(figures.transfer)} a step, the input itself {_ms(figures.total)}"
        )
        return "transfer", transfer > 1.2 * total, why, advice_for("transfer", None)
    costs = sorted(figures.costs, key=lambda cost: cost.least, reverse=True)
    top = costs[0]
    usual = max(figures.costs, key=lambda cost: cost.median)
    is_clear = top is usual and top.least >= _DOMINANT * total
    why = (
        f"the slowest stage is {top.stage.name!r} with {min(1.0, top.least / total):.0%} of the "
        f"input's time ({1e3 * top.least:.3g} of {1e3 * total:.3g} ms a step, the shortest rounds"
        f"{'; processors mostly idle' if top.waits else ''})"
    )
    advice = advice_for(top.stage.kind, top)
    if not is_clear and len(costs) > 1:
        second = costs[1] if top is usual else usual
        why += f", not clearly before {second.stage.name!r} ({1e3 * second.least:.3g} ms)"
        advice += tuple(a for a in advice_for(second.stage.kind, second) if a not in advice)
    return top.stage.name, is_clear, why, advice


def _is_overhead(rounds: Rounds, larger: Rounds, figures: Figures) -> bool:
    if not larger or figures.batch_size > LARGEST_TINY_BATCH:
        return False
    return max(_ratio(larger, rounds), min(larger) / min(rounds)) < _FEW_TIMES


def _tiny(figures: Figures) -> str:
    ratio = _ratio(figures.larger, figures.total)
    return (
        f"batches are too small: the input of {figures.larger_by} times as many examples takes "
        f"only {ratio:.1f} times as long, so a batch of {figures.batch_size} is mostly overhead"
    )


def _larger_batch(figures: Figures) -> str:
    return (
        f"use a larger global_batch_size than {figures.batch_size}, and scale the learning rate "
        "(tfscale.schedules.scale_learning_rate)"
    )


def _ratio(values: Rounds, others: Rounds) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def _ms(rounds: Rounds) -> str:
    return f"{1e3 * statistics.median(rounds):.3g} ms"
