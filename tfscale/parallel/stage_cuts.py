"""Where a model is cut into the stages of a pipeline, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from strategies.extension import text
from tfscale.parallel.balance import balanced_places
from tfscale.parallel.layer_costs import OperationCost


def check_schedule(schedule: str, stages: int, microbatches: int, virtual_stages: int) -> None:
    """Checks that a pipeline can be computed in the order of a schedule.

    Args:
        schedule: One of `SCHEDULES`.
        stages: Devices of a replica. Positive.
        microbatches: Of a replica batch. Positive.
        virtual_stages: Runs of layers on each device. Positive.

    Raises:
        ValueError: If it cannot.
    """
    if virtual_stages > 1 and schedule != "interleaved":
        raise ValueError(
            "`virtual_stages` must be 1 unless `schedule` is 'interleaved'. Received: "
            f"virtual_stages={virtual_stages}, schedule={schedule!r}. Leave it out."
        )
    if schedule == "interleaved" and microbatches % stages:
        raise ValueError(
            f"`microbatches` must be a multiple of {stages}, the number of stages, for "
            f"schedule='interleaved'. Received: microbatches={microbatches}. Pass "
            f"{-(-microbatches // stages) * stages}, or schedule='1f1b'."
        )


def balanced_cut(
    nodes: Sequence[Any],
    reasons: Mapping[int, str],
    count: int,
    costs: Callable[[], Sequence[OperationCost]],
) -> list[int]:
    """Returns where runs of layers begin, but for the first, so that they cost about the same.

    Args:
        nodes: Of the model, in the order in which Keras runs them.
        reasons: From `places_to_cut`.
        count: Runs of layers. Positive.
        costs: Returns those of the nodes; called if the model can be cut so often.

    Raises:
        ValueError: If it cannot.
    """
    allowed = [place for place, reason in reasons.items() if not reason]
    found = costs() if len(allowed) >= count - 1 else []
    places = balanced_places(
        [each.seconds for each in found] or [0.0] * len(nodes),
        [each.bytes for each in found] or [0] * len(nodes),
        allowed,
        count,
    )
    if places is None:
        raise ValueError(
            f"`model` must have at least {count} parts between which it can be cut. Received: "
            f"{len(nodes)} operations, and {len(allowed)} places to cut. Use fewer stages."
        )
    return places


def named_cut(
    nodes: Sequence[Any], reasons: dict[int, str], names: Sequence[Any], count: int
) -> list[int]:
    """Returns where the named layers are in the order of the model.

    Args:
        nodes: Of the model, in the order in which Keras runs them.
        reasons: From `places_to_cut`.
        names: Of the layers at which runs begin.
        count: Runs of layers.

    Raises:
        ValueError: If it cannot be cut there.
    """
    names = [text("stages", name) for name in names]
    if len(names) != count - 1:
        raise ValueError(
            f"`stages` must name {count - 1} layers, at which all runs of layers but the first "
            f"begin. Received: {len(names)} names: {names}. Pass one for each."
        )
    order = [node.operation.name for node in nodes]
    places = []
    for name in names:
        if name not in order:
            raise ValueError(
                "`stages` must be names of operations directly in the model. Received: "
                f"{name!r}. Choose from {', '.join(dict.fromkeys(order))}."
            )
        place = order.index(name)
        reason = "the first stage begins there" if place == 0 else reasons[place]
        if reason:
            raise ValueError(
                f"`stages` must be layers before which the model can be cut. Received: {name!r}: "
                f"{reason}. Choose another layer."
            )
        places.append(place)
    if places != sorted(set(places)):
        raise ValueError(
            "`stages` must be in the order in which the model computes its layers, each once. "
            f"Received: {names}. Their order is {sorted(names, key=order.index)}."
        )
    return places
