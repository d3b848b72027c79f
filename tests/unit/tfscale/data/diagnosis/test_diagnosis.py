"""Verdicts from given figures: what is named, what is certain, and no false alarm in noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tfscale.data.diagnosis.advice import advice_for
from tfscale.data.diagnosis.diagnosis import diagnosed
from tfscale.data.diagnosis.figures import Cost, Figures, costs_of
from tfscale.data.diagnosis.stage import Stage, Traits
from tfscale.data.diagnosis.turns import Turn


def cost(kind: str, *milliseconds: float, busy: float = 1.0, **traits: object) -> Cost:
    seconds = tuple(each / 1e3 for each in milliseconds)
    stage = Stage(kind, kind, "", None, 1, Traits(**traits))  # type: ignore[arg-type]
    return Cost(stage, seconds, tuple(busy * each for each in seconds), min(seconds))


def figures(*costs: Cost, **others: Any) -> Figures:
    total = tuple(map(sum, zip(*(each.seconds for each in costs), strict=True)))
    given = Figures(costs, total, (1e-4,) * len(total), batch_size=256, batch_bytes=2**20)
    return dataclasses.replace(given, **others)


def ms(*milliseconds: float) -> tuple[float, ...]:
    return tuple(each / 1e3 for each in milliseconds)


SLOW_DECODING = (cost("read", 1, 1, 1), cost("decode", 8, 9, 8), cost("augment", 1, 1, 1))


def test_stage_that_adds_most_is_named_with_its_part_of_the_input() -> None:
    found = diagnosed(figures(*SLOW_DECODING, model=ms(4, 4, 4), training=ms(10, 11, 10)))
    assert (found.limit, found.stage, found.is_certain) == ("input", "decode", True)
    assert found.waiting == pytest.approx(0.6, abs=0.01)
    assert "input-bound: 60% of the time waits for input" in found.text
    assert "'decode' with 80% of the input's time" in found.text


def test_input_that_a_model_hides_is_not_the_limit_and_gets_no_advice() -> None:
    found = diagnosed(figures(*SLOW_DECODING, model=ms(30, 31, 30), training=ms(31, 31, 31)))
    assert (found.limit, found.is_certain, found.advice) == ("compute", True, ())
    assert found.text.startswith("compute-bound: the input is not the limit")


def test_one_disturbed_round_raises_no_alarm() -> None:
    found = diagnosed(figures(*SLOW_DECODING, model=ms(30, 30, 30), training=ms(30, 90, 31)))
    assert (found.limit, found.is_certain) == ("compute", True)


@pytest.mark.parametrize(
    ("model", "training"),
    [
        pytest.param((12, 12, 12), (12, 24, 25), id="the shortest round is not slower"),
        pytest.param((12, 30, 30), (20, 31, 31), id="only the shortest rounds are slower"),
    ],
)
def test_rounds_that_contradict_the_shortest_ones_are_called_uncertain(
    model: tuple[float, ...], training: tuple[float, ...]
) -> None:
    found = diagnosed(figures(*SLOW_DECODING, model=ms(*model), training=ms(*training)))
    assert (found.limit, found.is_certain, found.advice) == ("uncertain", False, ())
    assert found.text.startswith("uncertain, because rounds differ")


@pytest.mark.parametrize(("training", "limit"), [(36, "compute"), (45, "processors")])
def test_hidden_input_that_takes_processors_from_the_model_is_not_waited_for(
    training: float, limit: str
) -> None:
    found = diagnosed(figures(*SLOW_DECODING, model=ms(30, 30, 30), training=ms(*[training] * 3)))
    assert found.limit == limit
    assert "alone takes 10 ms a step" in found.text
    assert "waits for input" not in found.text


def test_input_of_a_tenth_of_a_step_is_not_blamed_for_more() -> None:
    noise = figures(*SLOW_DECODING, model=ms(110, 110, 110), training=ms(190, 200, 190))
    found = diagnosed(noise)
    assert (found.limit, found.advice) == ("compute", ())


def test_two_stages_of_equal_cost_are_both_named() -> None:
    equal = (cost("read", 5, 6, 5), cost("decode", 6, 5, 5.1))
    found = diagnosed(figures(*equal, model=ms(2, 2, 2), training=ms(11, 11, 11)))
    assert not found.is_certain
    assert "not clearly before" in found.text
    assert "'read'" in found.text
    assert "'decode'" in found.text


def test_without_a_model_the_slow_stage_is_not_called_a_limit() -> None:
    found = diagnosed(figures(*SLOW_DECODING))
    assert (found.limit, found.stage, found.waiting) == ("unknown", "decode", None)
    assert "Pass --model" in found.text


def test_input_of_less_than_a_millisecond_has_no_slow_stage() -> None:
    fast = (cost("read", 0.1, 0.1), cost("augment", 0.5, 0.6))
    assert diagnosed(figures(*fast)).limit == "none"


def test_steps_of_less_than_a_millisecond_raise_no_alarm() -> None:
    fast = (cost("read", 0.1, 0.1), cost("augment", 0.5, 0.6))
    found = diagnosed(figures(*fast, model=ms(0.2, 0.2), training=ms(0.6, 0.6)))
    assert (found.limit, found.advice) == ("none", ())


def test_small_batches_whose_larger_ones_take_hardly_longer_are_overhead() -> None:
    small = figures(
        cost("read", 2, 2), batch_size=4, larger=ms(3, 3), model=ms(2, 2), training=ms(2, 2)
    )
    found = diagnosed(dataclasses.replace(small, model_larger=ms(3, 3)))
    assert found.limit == "overhead"
    assert "8 times as many examples take only 1.5 times as long" in found.text
    assert diagnosed(dataclasses.replace(small, model_larger=ms(15, 15))).limit == "compute"


def test_copy_that_takes_longer_than_the_input_is_named_transfer() -> None:
    slow = figures(*SLOW_DECODING, model=ms(4, 4, 4), training=ms(34, 34, 34))
    found = diagnosed(dataclasses.replace(slow, transfer=ms(30, 30, 31), batch_bytes=2**28))
    assert (found.stage, found.is_certain) == ("transfer", True)
    assert "256 MiB" in found.text
    assert "uint8" in found.advice[0]


def test_stage_that_only_waits_is_said_to_leave_processors_idle() -> None:
    waits = figures(cost("read", 9, 9, busy=0.02), cost("decode", 1, 1))
    assert "processors mostly idle" in diagnosed(waits).text


@pytest.mark.parametrize(
    ("slow", "said"),
    [
        (cost("read", 9, python=True, read_workers=0), "read_workers=N"),
        (cost("read", 9, python=True, read_workers=2), "more than read_workers=2"),
        (cost("read", 9, python=True), "generator"),
        (cost("read", 9, busy=0.01), "read it once"),
        (cost("read", 9, is_cached=True), "/dev/shm"),
        (cost("decode", 9), "read it once"),
        (cost("preprocess", 9, python=True), "calls Python"),
        (cost("preprocess", 9, is_sequential=True), "num_parallel_calls"),
        (cost("preprocess", 9, by_row=True), "one example after the other"),
        (cost("augment", 9, by_row=True), "tf.map_fn"),
        (cost("batch", 9), "whole batches"),
    ],
)
def test_advice_follows_from_the_stage_and_its_graph(slow: Cost, said: str) -> None:
    assert said in advice_for(slow.stage.kind, slow)[0]


def test_cost_of_a_stage_is_the_difference_within_each_round() -> None:
    stages = [Stage(name, name, "", None, 1) for name in ("read", "decode")]  # type: ignore[arg-type]
    turns = {
        "read": [Turn(2.0, 1.0), Turn(4.0, 1.0)],
        "decode": [Turn(5.0, 3.0), Turn(6.0, 3.0)],
    }
    read, decode = costs_of(stages, turns)
    assert (read.seconds, decode.seconds) == ((2.0, 4.0), (3.0, 2.0))
    assert decode.processor == (2.0, 2.0)
    assert decode.least == 3.0  # 5.0 - 2.0, the shortest turns
