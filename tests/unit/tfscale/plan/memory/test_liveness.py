"""Tensors in memory, operation by operation: hand-counted."""

from __future__ import annotations

import pytest

from tfscale.plan.memory.blocks import Blocks
from tfscale.plan.memory.liveness import (
    ACTIVATION,
    GRADIENT,
    MAY_REUSE,
    NOT_COUNTED,
    SHARES,
    WEIGHT_COPY,
    Moment,
    Operation,
    Tensor,
    moments,
    moments_of_threads,
)


def totals(
    operations: list[Operation], tensors: list[Tensor], kept: tuple[int, ...] = ()
) -> list[int]:
    return [moment.total for moment in moments(operations, tensors, kept)]


def test_a_tensor_is_in_memory_until_its_last_reader_has_run() -> None:
    tensors = [Tensor(10), Tensor(5), Tensor(1), Tensor(2)]
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,)),
        Operation((1,), (2,)),
        Operation((0, 2), (3,)),
    ]
    assert totals(operations, tensors) == [10, 15, 16, 13]


def test_what_nothing_reads_is_freed_at_once_unless_it_is_kept() -> None:
    operations = [Operation((), (0,)), Operation((), (1,))]
    assert totals(operations, [Tensor(4), Tensor(2)]) == [4, 2]
    assert totals(operations, [Tensor(4), Tensor(2)], kept=(0,)) == [4, 6]


def test_a_reshaped_tensor_is_in_memory_once() -> None:
    operations = [Operation((), (0,)), Operation((0,), (1,), SHARES), Operation((1,), (2,))]
    assert totals(operations, [Tensor(8), Tensor(8), Tensor(1)]) == [8, 8, 9]


@pytest.mark.parametrize(
    ("operations", "sizes", "expected"),
    [
        pytest.param(
            [Operation((), (0,)), Operation((0,), (1,), MAY_REUSE)],
            [8, 8],
            [8, 8],
            id="written over",
        ),
        pytest.param(
            [
                Operation((), (0,)),
                Operation((0,), (1,), MAY_REUSE),
                Operation((0, 1), (2,)),
            ],
            [8, 8, 1],
            [8, 16, 17],
            id="needed later",
        ),
        pytest.param(
            [Operation((), (0,)), Operation((0,), (1,), MAY_REUSE)], [8, 4], [8, 12], id="smaller"
        ),
        pytest.param(
            [Operation((), (0,)), Operation((0, 0), (1,), MAY_REUSE)], [8, 8], [8, 8], id="squared"
        ),
    ],
)
def test_an_elementwise_operation_writes_over_an_input_that_is_not_needed(
    operations: list[Operation], sizes: list[int], expected: list[int]
) -> None:
    assert totals(operations, [Tensor(size) for size in sizes]) == expected


def test_a_weight_is_not_written_over_and_not_counted() -> None:
    tensors = [Tensor(8, NOT_COUNTED), Tensor(8), Tensor(8)]
    operations = [Operation((), (0,)), Operation((0,), (1,), MAY_REUSE), Operation((1,), (2,))]
    assert totals(operations, tensors) == [0, 8, 16]


def test_kinds_are_counted_apart_and_shared_memory_of_a_gradient_is_a_gradient() -> None:
    tensors = [Tensor(1, WEIGHT_COPY), Tensor(2, ACTIVATION), Tensor(4), Tensor(4, GRADIENT)]
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,)),
        Operation((0, 1), (2,)),
        Operation((2,), (3,), SHARES),
    ]
    found = moments(operations, tensors)
    assert (found[1], found[2]) == (Moment(2, 1, 0), Moment(6, 1, 0))
    assert found[3] == Moment(0, 0, 4)


def test_shared_memory_that_nothing_reads_is_freed_once() -> None:
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,), SHARES),
        Operation((), (2,)),
    ]
    assert totals(operations, [Tensor(8), Tensor(8), Tensor(1)]) == [8, 8, 1]


def test_a_parameter_that_is_updated_before_its_last_reader_is_there_twice() -> None:
    tensors = [Tensor(8, NOT_COUNTED, value_of=0), Tensor(1), Tensor(1)]
    reads, early, late = Operation((), (0,)), Operation((), (), writes=0), Operation((0,), (1,))
    assert totals([reads, late, early], tensors) == [0, 1, 0]
    assert totals([reads, early, late], tensors) == [0, 8, 9]
    again = Operation((0,), (2,))
    assert totals([reads, early, early, late, again], tensors) == [0, 8, 8, 9, 9]


def test_scratch_is_there_only_while_its_operation_runs() -> None:
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,), scratch_bytes=100),
        Operation((1,), ()),
    ]
    assert totals(operations, [Tensor(8), Tensor(2)]) == [8, 110, 2]


TWO_GRADIENTS = (
    # Both are ready at once. The one that is taken first may be updated before the other.
    [
        Operation((), (0,), seconds=1.0),
        Operation((), (1,), seconds=1.0),
        Operation((0,), (2,), seconds=1.0),
        Operation((2,), ()),
        Operation((1,), ()),
    ],
    [Tensor(8), Tensor(4), Tensor(2)],
)


def test_a_thread_finishes_what_it_began() -> None:
    found = moments_of_threads(*TWO_GRADIENTS, threads=1)
    assert [moment.total for moment in found] == [4, 4, 8, 10, 2]


def test_two_threads_have_two_operations_in_memory() -> None:
    tensors = [Tensor(1), Tensor(10), Tensor(20)]
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,), seconds=1.0),
        Operation((0,), (2,), seconds=2.0),
    ]
    assert [m.total for m in moments_of_threads(operations, tensors, threads=1)] == [1, 21, 11]
    assert max(m.total for m in moments_of_threads(operations, tensors, threads=2)) == 31


def test_blocks_are_taken_and_given_back() -> None:
    blocks = Blocks()
    chain = [Operation((i - 1,) if i else (), (i,), scratch_bytes=300) for i in range(3)]
    moments_of_threads(chain, [Tensor(256)] * 3, threads=1, blocks=[blocks])
    assert (blocks.used, blocks.peak) == (0, 2 * 256 + 512)


def test_a_device_has_what_it_makes_until_the_last_reader_on_any_device() -> None:
    tensors = [Tensor(8), Tensor(4), Tensor(2)]
    operations = [
        Operation((), (0,), seconds=1.0),
        Operation((0,), (1,), travels=True, seconds=1.0, device=1),
        Operation((1,), (2,), seconds=1.0, device=1),
        Operation((), (), waits_for=(1,), seconds=1.0),
        Operation((), (), waits_for=(2,), seconds=1.0),
    ]
    found = moments_of_threads(operations, tensors, threads=1)
    totals = {moment.operation: (moment.device, moment.total) for moment in found}
    assert totals == {0: (0, 8), 1: (1, 4), 2: (1, 6), 3: (0, 0), 4: (0, 0)}


def test_an_operation_waits_for_those_that_it_is_told_to() -> None:
    tensors = [Tensor(8), Tensor(4)]
    operations = [Operation((), (0,), waits_for=(1,)), Operation((), (1,))]
    assert [m.total for m in moments_of_threads(operations, tensors, threads=2)] == [4, 8]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_chain_needs_the_same_with_any_number_of_threads(threads: int) -> None:
    tensors = [Tensor(2**i) for i in range(6)]
    chain = [Operation((i - 1,) if i else (), (i,), seconds=1.0) for i in range(6)]
    assert moments_of_threads(chain, tensors, threads=threads) == moments(chain, tensors)
