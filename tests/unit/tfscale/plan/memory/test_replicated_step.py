"""What several replicas add to a step: hand-counted."""

from __future__ import annotations

import pytest

from tfscale.plan.memory.cuts import Parameter
from tfscale.plan.memory.growing_step import GrowingStep
from tfscale.plan.memory.liveness import (
    ACTIVATION,
    BUFFER,
    GRADIENT,
    NOT_COUNTED,
    WEIGHT_COPY,
    Moment,
    Operation,
    Tensor,
    moments_of_threads,
)
from tfscale.plan.memory.replicated_step import REDUCE, Replication, replica_step
from tfscale.plan.memory.step_graph import BACKWARD, FORWARD, UPDATE, Gradient, StepGraph

WEIGHT = 20 * 2**20
"""Larger than a pack, so that it travels alone."""
LAYERS = 4


def chain(weight: int = WEIGHT, layers: int = LAYERS, casts: bool = False) -> StepGraph:
    """Returns the step of a chain of layers with one weight each, whose activations are nothing."""
    operations, phases, tensors = [], [], []
    reads: dict[int, int] = {}

    def add(phase: str, inputs: tuple[int, ...], size: int, kind: str) -> int:
        tensors.append(Tensor(size, kind))
        operations.append(Operation(inputs, (len(tensors) - 1,), seconds=1.0))
        phases.append(phase)
        return len(tensors) - 1

    x = add(FORWARD, (), 1, ACTIVATION)
    used = []
    for number in range(layers):
        read = add(FORWARD, (), weight, NOT_COUNTED)
        reads[read] = number
        used.append(add(FORWARD, (read,), weight // 2, WEIGHT_COPY) if casts else read)
        x = add(FORWARD, (x, used[-1]), 1, ACTIVATION)
    gradients = []
    x = add(BACKWARD, (x,), 1, ACTIVATION)
    for number in reversed(range(layers)):
        gradients.append((number, add(BACKWARD, (x,), weight, GRADIENT)))
        x = add(BACKWARD, (x, used[number]), 1, ACTIVATION)
    for number, gradient in reversed(gradients):
        scaled = add(UPDATE, (gradient,), weight, ACTIVATION)
        operations.append(Operation((scaled,), (), seconds=1e-3, writes=number))
        phases.append(UPDATE)
    return StepGraph(
        operations=tuple(operations),
        tensors=tuple(tensors),
        phases=tuple(phases),
        gradients=tuple(Gradient((g,), number, weight) for number, g in reversed(gradients)),
        reads=reads,
        only_shapes=frozenset(),
        flops=0,
        num_unknown=0,
        num_loops=0,
    )


def parameters(weight: int = WEIGHT, layers: int = LAYERS) -> list[Parameter]:
    return [Parameter(weight, f"layer_{number}", is_joined=False) for number in range(layers)]


def during(made: GrowingStep, phase: str) -> list[Moment]:
    """Returns the moments at which operations of a phase begin."""
    live = moments_of_threads(made.operations, made.tensors, threads=1)
    return [moment for moment in live if made.phases[moment.operation] == phase]


def test_one_replica_does_what_was_traced() -> None:
    step = chain()
    made = replica_step(step, parameters(), Replication(1, 1, 0, 1))
    assert tuple(made.operations) == step.operations


def test_replicas_of_one_process_copy_all_gradients_into_one_pack() -> None:
    made = replica_step(chain(), parameters(), Replication(2, 1, 0, 1))
    most = max(during(made, REDUCE), key=lambda moment: moment.total)
    assert (most.gradients, most.buffers) == (LAYERS * WEIGHT, LAYERS * WEIGHT)


def test_a_gradient_that_fills_a_pack_is_reduced_where_it_lies() -> None:
    made = replica_step(chain(), parameters(), Replication(2, 2, 0, 1))
    most = max(during(made, REDUCE), key=lambda moment: moment.total)
    received = WEIGHT // 2
    assert most.total <= LAYERS * WEIGHT + received + 1
    assert most.buffers == 0


def test_workers_copy_small_gradients_into_packs() -> None:
    small = 2**20
    step = chain(weight=small, layers=40)
    made = replica_step(step, parameters(small, 40), Replication(2, 2, 0, 1))
    packs = [
        made.tensors[each.outputs[0]].bytes
        for each, phase in zip(made.operations, made.phases, strict=True)
        if phase == REDUCE and len(each.inputs) > 1
    ]
    assert packs == [16 * small, 16 * small, 8 * small]


@pytest.mark.parametrize("shard", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_optimizer_works_on_parts(shard: int, workers: int) -> None:
    step = chain()
    made = replica_step(step, parameters(), Replication(4, workers, shard, 1))
    scaled = [
        made.tensors[each.outputs[0]].bytes
        for each, phase in zip(made.operations[: len(step.operations)], step.phases, strict=True)
        if phase == UPDATE and each.outputs
    ]
    assert scaled == [WEIGHT // 4] * LAYERS


@pytest.mark.parametrize("casts", [False, True])
def test_with_shard_3_two_layers_are_gathered_at_most(casts: bool) -> None:
    step = chain(layers=8, casts=casts)
    made = replica_step(step, parameters(layers=8), Replication(4, 4, 3, 1))
    forward = max(moment.buffers for moment in during(made, FORWARD))
    assert forward == 2 * WEIGHT
    # In the backward pass one, and none is kept for it; a gradient that travels lies in its place.
    assert max(moment.buffers for moment in during(made, BACKWARD)) <= 2 * WEIGHT
    if casts:
        for phase in (FORWARD, BACKWARD):
            copies = max(moment.weight_copies for moment in during(made, phase))
            assert copies <= 2 * WEIGHT // 2


def test_without_shards_casts_of_all_weights_wait_for_their_backward_pass() -> None:
    step = chain(layers=8, casts=True)
    made = replica_step(step, parameters(layers=8), Replication(4, 4, 2, 1))
    assert max(moment.weight_copies for moment in during(made, BACKWARD)) == 8 * WEIGHT // 2


def test_sums_of_microbatches_are_there_from_the_beginning() -> None:
    made = replica_step(chain(), parameters(), Replication(1, 1, 0, 4))
    assert {moment.gradients for moment in during(made, FORWARD)[LAYERS + 1 :]} == {LAYERS * WEIGHT}


def test_with_shard_3_microbatches_add_up_parts() -> None:
    made = replica_step(chain(), parameters(), Replication(4, 4, 3, 4))
    assert during(made, FORWARD)[-1].gradients == LAYERS * WEIGHT // 4


@pytest.mark.parametrize("workers", [1, 2])
def test_updated_parts_are_gathered_once_they_are_written(workers: int) -> None:
    step = chain()
    made = replica_step(step, parameters(), Replication(2, workers, 1, 1))
    writers = {
        each.writes: place for place, each in enumerate(made.operations) if each.writes is not None
    }
    wholes = [
        each
        for each in made.operations[len(step.operations) :]
        if not each.inputs and writers.keys() and set(each.waits_for) & set(writers.values())
    ]
    assert len(wholes) == LAYERS
    made_sizes = [made.tensors[each.outputs[0]] for each in wholes]
    assert made_sizes == [Tensor(WEIGHT // 2, BUFFER)] * LAYERS
