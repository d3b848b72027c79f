"""Which layers are recomputed to fit a budget. Expected values are worked out by hand.

Two blocks, 0 and 3. Each has two parts, 1 and 2 and 4 and 5. A block keeps 100 bytes: its first
part 60, its second 30, and 10 between them. Its input of 8 bytes is kept anyway.
"""

from __future__ import annotations

import pytest

from tfscale.recomputation.budget import Layer, bytes_in, choose_within, needed

SIZES = {
    **{"in0": 8, "a0": 60, "b0": 30, "m0": 10},
    **{"in1": 8, "a1": 60, "b1": 30, "m1": 10},
}
BLOCKS = [
    Layer(0, frozenset({1, 2}), frozenset({"a0", "b0", "m0"}), frozenset({"in0"}), 1000.0),
    Layer(1, frozenset(), frozenset({"a0"}), frozenset({"in0"}), 900.0),
    Layer(2, frozenset(), frozenset({"b0"}), frozenset({"m0"}), 10.0),
    Layer(3, frozenset({4, 5}), frozenset({"a1", "b1", "m1"}), frozenset({"in1"}), 1000.0),
    Layer(4, frozenset(), frozenset({"a1"}), frozenset({"in1"}), 900.0),
    Layer(5, frozenset(), frozenset({"b1"}), frozenset({"m1"}), 10.0),
]


def test_what_is_kept_without_recomputation_is_the_sum() -> None:
    assert needed(SIZES, []) == 216


def test_recomputed_blocks_need_their_inputs_and_the_largest_inside() -> None:
    assert needed(SIZES, [BLOCKS[0]]) == 116 + 100
    assert needed(SIZES, [BLOCKS[0], BLOCKS[3]]) == 16 + 100


def test_an_input_that_is_kept_for_recomputation_only_counts() -> None:
    layer = Layer(0, frozenset(), frozenset({"a"}), frozenset({"x"}), 1.0)
    assert needed({"a": 50, "x": -20}, []) == 50
    assert needed({"a": 50, "x": -20}, [layer]) == 20 + 50


def test_nothing_is_recomputed_if_all_fits() -> None:
    assert choose_within(216, SIZES, BLOCKS) == []


def test_the_cheapest_bytes_are_recomputed_first() -> None:
    assert choose_within(190, SIZES, BLOCKS) == [2, 5]  # 216 - 60 + 30


def test_a_block_takes_the_place_of_its_parts() -> None:
    assert choose_within(120, SIZES, BLOCKS) == [0, 3]


def test_an_unreachable_budget_is_refused_with_what_can_be_reached() -> None:
    with pytest.raises(ValueError, match=r"115 bytes, while the activations need 116 "):
        choose_within(115, SIZES, BLOCKS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), ("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("7", 7)],
)
def test_sizes_are_numbers_or_text_with_units(value: object, expected: int) -> None:
    assert bytes_in("memory_budget", value) == expected


@pytest.mark.parametrize("value", [0, -1, True, "2XB", "many", "1.2.3MB", None, "0GiB"])
def test_other_sizes_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="`memory_budget` must be a number of bytes"):
        bytes_in("memory_budget", value)
