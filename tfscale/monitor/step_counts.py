"""What a step computes and sends, by its graph: counted once, when training has begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strategies.extension import LocalTraining, announce, spec_with_rows
from tfscale.monitor.collectives import collectives_of
from tfscale.monitor.flops import flops_in
from tfscale.monitor.step_graph import step_graph


@dataclass(frozen=True)
class StepCounts:
    """What a step of a worker takes.

    Attributes:
        flops_per_example: Floating-point operations of an example.
        collective_bytes: Bytes that the worker's replicas send in a step, 0 with one replica; None
            if that is not known.
    """

    flops_per_example: float
    collective_bytes: int | None


def step_counts(model: Any, spec: Any, rows: int) -> StepCounts | None:
    """Counts the step of a model, and says what it cannot count.

    Args:
        model: A compiled model under a tfscale strategy.
        spec: Structure of `tf.TypeSpec` of a replica's batch.
        rows: Examples of a replica in a step, at least 1.

    Returns:
        None if the shapes of a step are not known.
    """
    strategy = model.distribute_strategy
    try:
        graph = step_graph(model, spec_with_rows(spec, rows), "Monitor")
    except ValueError as error:
        announce(f"Monitor does not count operations: {error}")
        return None
    flops, moved = flops_in(graph, strategy), collectives_of(graph, strategy)
    if flops.unknown:
        announce(
            "Monitor counts these operations as 0, because their size is hidden: "
            f"{_listed(flops.unknown)}"
        )
    # Their step reduces gradients when it is traced here, and not when a round takes it.
    is_known = moved.is_known and not isinstance(model.train_function, LocalTraining)
    if not is_known:
        reason = (
            f"their size depends on the data: {_listed(moved.unknown)}"
            if moved.unknown
            else "the replicas exchange them in another way"
        )
        announce(f"Monitor does not count the bytes of collectives: {reason}")
    local = len(strategy.extended.worker_devices)
    return StepCounts(flops.total / rows, moved.sent * local if is_known else None)


def _listed(found: Any) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
