"""Microbatches of a pipeline: what its schedule keeps, by the formulas of the papers."""

from __future__ import annotations

import pytest

from tfscale.plan.memory.growing_step import GrowingStep
from tfscale.plan.memory.liveness import (
    ACTIVATION,
    GRADIENT,
    NOT_COUNTED,
    Moment,
    Operation,
    Tensor,
    moments_of_threads,
)
from tfscale.plan.memory.pipelined_step import Staging, pipelined
from tfscale.plan.memory.step_graph import BACKWARD, FORWARD, UPDATE, Gradient, StepGraph

KEPT = 2**20
"""Bytes that a piece keeps for its backward pass; everything else is small."""
WEIGHT = 1000


def traced(pieces: int) -> StepGraph:
    """Returns a step of one microbatch: pieces of one weight each."""
    operations: list[Operation] = []
    phases: list[str] = []
    tensors: list[Tensor] = []
    units: list[tuple[bool, int] | None] = []

    def add(
        phase: str, piece: int, inputs: tuple[int, ...], size: int, kind: str = ACTIVATION
    ) -> int:
        tensors.append(Tensor(size, kind))
        operations.append(Operation(inputs, (len(tensors) - 1,), seconds=1.0, device=piece))
        phases.append(phase)
        units.append(None if phase == UPDATE else (phase == FORWARD, piece))
        return len(tensors) - 1

    x = add(UPDATE, 0, (), 8, NOT_COUNTED)
    phases[0] = FORWARD  # the batch
    kept = []
    for piece in range(pieces):
        kept.append(add(FORWARD, piece, (x,), KEPT))
        x = add(FORWARD, piece, (kept[-1],), 1)
    gradients = []
    for piece in reversed(range(pieces)):
        gradients.append((piece, add(BACKWARD, piece, (x, kept[piece]), WEIGHT, GRADIENT)))
        x = add(BACKWARD, piece, (x, kept[piece]), 1)
    for piece, gradient in gradients:
        add(UPDATE, piece, (gradient,), 1)
        operations[-1] = Operation((gradient,), (), device=piece, writes=piece)
    return StepGraph(
        operations=tuple(operations),
        tensors=tuple(tensors),
        phases=tuple(phases),
        gradients=tuple(Gradient((g,), piece, WEIGHT) for piece, g in gradients),
        reads={},
        only_shapes=frozenset(),
        flops=3,
        num_unknown=0,
        num_loops=0,
        units=tuple(units),
    )


def moments(step: StepGraph) -> list[Moment]:
    own = GrowingStep(step.operations, step.tensors, step.phases)
    own.copy_between_devices({})
    return moments_of_threads(own.operations, own.tensors, threads=1)


def kept_by_device(stages: int, schedule: str, microbatches: int, virtual: int = 1) -> list[int]:
    """Returns how many activations of a run of layers are in memory at most, by device."""
    runs = stages * virtual
    staging = Staging(stages, schedule, virtual, tuple(range(1, runs)))
    found = moments(pipelined(traced(runs), staging, microbatches))
    return [
        max(m.activations for m in found if m.device == device) // KEPT for device in range(stages)
    ]


@pytest.mark.parametrize("microbatches", [1, 2, 5, 8])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_gpipe_keeps_all_and_1f1b_as_many_as_stages_follow(stages: int, microbatches: int) -> None:
    assert kept_by_device(stages, "gpipe", microbatches) == [microbatches] * stages
    expected = [min(microbatches, stages - stage) for stage in range(stages)]
    assert kept_by_device(stages, "1f1b", microbatches) == expected


def test_interleaved_keeps_what_megatron_warms_up_with_and_one_more() -> None:
    # Narayanan et al. 2021: (S - s - 1) x 2 + (V - 1) S forward passes first, then one of each.
    stages, virtual = 4, 2
    expected = [(stages - s - 1) * 2 + (virtual - 1) * stages + 1 for s in range(stages)]
    assert kept_by_device(stages, "interleaved", 8, virtual) == expected


def test_pieces_that_are_neighbours_are_one_stage() -> None:
    staging = Staging(2, "gpipe", 1, begins=(3,))
    found = moments(pipelined(traced(4), staging, 2))
    most = [max(m.activations for m in found if m.device == device) for device in (0, 1)]
    assert [each // KEPT for each in most] == [2 * 3, 2 * 1]


def test_microbatches_add_up_one_gradient_for_each_weight() -> None:
    step = pipelined(traced(2), Staging(2, "1f1b", 1, (1,)), 4)
    sums = [gradient.tensors[0] for gradient in step.gradients]
    assert [step.tensors[number].bytes for number in sums] == [WEIGHT] * 2
    assert step.flops == 12
    found = moments(step)
    most = [max(m.gradients for m in found if m.device == device) for device in (0, 1)]
    assert most == [2 * WEIGHT] * 2  # the sum, and that of one microbatch


def test_a_skip_is_sent_once_a_microbatch() -> None:
    step = pipelined(traced(3), Staging(3, "gpipe", 1, (1, 2)), 4)
    own = GrowingStep(step.operations, step.tensors, step.phases)
    sent = own.copy_between_devices({})
    # Forward one byte to the next stage, backward one to the one before.
    assert [sent[device] for device in range(3)] == [4, 8, 4]
