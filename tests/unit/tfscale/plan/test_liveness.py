"""Tensors in memory, operation by operation: hand-counted."""

from __future__ import annotations

import pytest

from tfscale.plan.liveness import (
    ACTIVATION,
    GRADIENT,
    MAY_REUSE,
    NOT_COUNTED,
    SHARES,
    WEIGHT_COPY,
    Moment,
    Operation,
    Tensor,
    as_early_as_possible,
    moments,
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


def test_what_nobody_reads_is_freed_at_once_unless_it_is_kept() -> None:
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
    assert moments(operations, tensors)[2] == Moment(2, 1, 4)


def test_scratch_is_there_only_while_its_operation_runs() -> None:
    operations = [
        Operation((), (0,)),
        Operation((0,), (1,), scratch_bytes=100),
        Operation((1,), ()),
    ]
    assert totals(operations, [Tensor(8), Tensor(2)]) == [8, 110, 2]


def test_an_update_runs_as_soon_as_its_gradient_is_there() -> None:
    backward = [Operation((), (0,)), Operation((), (1,))]
    clip = Operation((0, 1), (2,))
    own_update = Operation((0,), ())
    waiting = Operation((), (), waits_for=(3,))
    ordered = as_early_as_possible([*backward, own_update, clip, waiting], 2)
    assert ordered == [backward[0], own_update, backward[1], clip, waiting]
