"""When each stage of a pipeline computed which microbatch, as a record and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tfscale.report import values
from tfscale.report.markup import fill

FORWARD, BACKWARD = "forward", "backward"
MOST_PASSES = 10_000
_MOST_STAGES = 1000
_WIDTH, _ROW = 1000, 40  # in the SVG's own coordinates


@dataclass(frozen=True)
class Pass:
    """The forward or backward pass of one microbatch through one run of layers.

    Attributes:
        stage: From 0.
        kind: "forward" or "backward".
        microbatch: From 0.
        begin: In seconds, at least 0.
        end: In seconds, at least `begin`.
        run: Which of the stage's runs of layers, from 0; above 0 with virtual stages.
    """

    stage: int
    kind: str
    microbatch: int
    begin: float
    end: float
    run: int = 0

    def __post_init__(self) -> None:
        for name in ("stage", "microbatch", "run"):
            object.__setattr__(self, name, values.count(name, getattr(self, name), at_least=0))
        if self.kind not in (FORWARD, BACKWARD):
            raise ValueError(
                f"`kind` must be forward or backward. Received: kind={values.shown(self.kind)}. "
                "Choose one of them."
            )
        for name in ("begin", "end"):
            object.__setattr__(self, name, values.number(name, getattr(self, name)))
        if not 0 <= self.begin <= self.end < math.inf:
            raise ValueError(
                "`begin` and `end` must be finite, with 0 <= begin <= end. Received: "
                f"begin={self.begin!r}, end={self.end!r}. Count from the first pass of the step."
            )


@dataclass(frozen=True)
class Stages:
    """One step of a pipeline.

    Attributes:
        title: What the picture shows. Not empty.
        passes: All passes of the step, at least one.

    Example:
        >>> Stages("gpipe", [Pass(0, "forward", 0, begin=0.0, end=0.5)]).passes[0].end
        0.5
    """

    title: str
    passes: Sequence[Pass]

    def __post_init__(self) -> None:
        values.text("title", self.title)
        values.sequence("passes", self.passes)
        is_possible = 0 < len(self.passes) <= MOST_PASSES
        if not is_possible or not all(isinstance(each, Pass) for each in self.passes):
            raise ValueError(
                f"`passes` must be 1 to {MOST_PASSES} Pass objects. Received: "
                f"{len(self.passes)} values. Take those of one step."
            )
        if max(each.stage for each in self.passes) >= _MOST_STAGES:
            raise ValueError(
                f"`stage` must be less than {_MOST_STAGES}. Received: stage="
                f"{max(each.stage for each in self.passes)}. Count devices of one replica."
            )
        object.__setattr__(self, "passes", tuple(self.passes))

    @classmethod
    def of(cls, pipeline: Any) -> Stages:
        """Returns the newest step of a `tfscale.parallel.Pipeline` with `timed=True`.

        Raises:
            ValueError: If its steps are not timed, or none was taken.
        """
        passes = [Pass(**each) for each in pipeline.measured_passes()]
        return cls(f"{pipeline.title}, {pipeline.measured_bubble():.1%} as measured", passes)


def stages_from(value: Any) -> Stages | None:
    """Returns what `dataclasses.asdict` made of a `Stages`, or None of None."""
    if value is None:
        return None
    return Stages(**{**value, "passes": [Pass(**each) for each in value["passes"]]})


def stages_picture(stages: Stages) -> Markup:
    """Draws a row for each stage and a box for each pass.

    Args:
        stages: Of one step.

    Returns:
        A `<figure>`.
    """
    count = 1 + max(each.stage for each in stages.passes)
    span = max(each.end for each in stages.passes) or 1.0
    return fill(
        "stages.html",
        title=stages.title,
        stages=range(count),
        boxes=list(_boxes(stages, span)),
        width=_WIDTH,
        row=_ROW,
        height=_ROW * count,
        seconds=span,
        waiting=1 - sum((each.end - each.begin) / span for each in stages.passes) / count,
    )


def _boxes(stages: Stages, span: float) -> Iterator[dict[str, Any]]:
    for each in stages.passes:
        begin, end = (_WIDTH * (time / span) for time in (each.begin, each.end))
        run = f", run {each.run}" if each.run else ""
        yield {
            "x": f"{begin:.1f}",
            "y": each.stage * _ROW,
            "width": f"{max(0.5, end - begin):.1f}",
            "kind": each.kind,
            "microbatch": each.microbatch,
            "middle": f"{(begin + end) / 2:.1f}",
            "is_wide": end - begin > 8 * len(str(each.microbatch)) + 4,
            "text": f"stage {each.stage}, {each.kind}, microbatch {each.microbatch}{run}: "
            f"{each.end - each.begin:.3g} s",
        }
