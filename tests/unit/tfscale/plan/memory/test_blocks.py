"""Blocks of the allocator: hand-counted."""

from __future__ import annotations

import random

import pytest

from tfscale.plan.memory.blocks import Blocks

KB = 1024


def test_a_block_is_a_multiple_of_256_bytes() -> None:
    blocks = Blocks()
    for size, used in ((1, 256), (256, 512), (257, 1024)):
        blocks.take(size)
        assert blocks.used == used


def test_a_free_block_that_is_less_than_twice_as_large_is_taken_whole() -> None:
    blocks = Blocks()
    first = blocks.take(100 * KB)
    blocks.take(KB)  # so that the free block has a neighbour
    blocks.give_back(first)
    blocks.take(51 * KB)
    assert blocks.used == 101 * KB


def test_a_free_block_that_is_twice_as_large_is_cut() -> None:
    blocks = Blocks()
    first = blocks.take(100 * KB)
    blocks.take(KB)
    blocks.give_back(first)
    blocks.take(50 * KB)
    assert blocks.used == 51 * KB


def test_at_most_128_mib_are_lost_in_a_block() -> None:
    blocks, mib = Blocks(), 2**20
    first = blocks.take(1000 * mib)  # of a region of 1024 MiB
    assert blocks.used == 1024 * mib
    blocks.give_back(first)
    blocks.take(800 * mib)
    assert blocks.used == 800 * mib


def test_free_blocks_that_touch_become_one() -> None:
    blocks = Blocks()
    places = [blocks.take(100 * KB) for _ in range(3)]
    blocks.take(KB)
    for place in (places[0], places[2], places[1]):
        blocks.give_back(place)
    assert blocks.take(300 * KB) == places[0]


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    blocks = Blocks()
    large, _, small, _ = (blocks.take(size) for size in (300 * KB, KB, 200 * KB, KB))
    blocks.give_back(large)
    blocks.give_back(small)
    assert blocks.take(180 * KB) == small


@pytest.mark.parametrize("seed", range(3))
def test_blocks_never_overlap_and_all_come_back(seed: int) -> None:
    draw, blocks, taken = random.Random(seed), Blocks(), dict[int, int]()
    for _ in range(2000):
        if taken and draw.random() < 0.5:
            blocks.give_back(taken.popitem()[0])
        else:
            size = int(2 ** draw.uniform(4, 22))
            place = blocks.take(size)
            assert all(place + size <= p or p + s <= place for p, s in taken.items())
            taken[place] = size
        assert sum(taken.values()) <= blocks.used <= blocks.peak
    for place in list(taken):
        blocks.give_back(place)
    assert blocks.used == 0
