"""Predictions beside numbers worked out by hand, for a model and a link of round numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.measured import MeasuredSpeed, Reduces, SmallSteps, Steps
from tfscale.plan.speed.predicting import SpeedPredictor
from tfscale.plan.speed.strategies import STRATEGIES, SpeedSettings
from tfscale.plan.speed.training_cost import training_cost

# a = 10 ms and b = 1 ms a row; alpha = 1 ms and beta = 1 us a byte.
MEASURED = MeasuredSpeed(
    model="mine:build",
    rows=30,
    pack_bytes=(4000, 8000),
    parameter_bytes=12_000,
    state_bytes=36_000,
    steps=(Steps(1, 10, (0.02,)), Steps(1, 30, (0.04,)), Steps(1, 90, (0.1,))),
    reduces=(*(Reduces(2, size, (0.002 + 1e-6 * size,), (0.0,)) for size in (1000, 8000, 64_000)),),
    small_steps=(),
    input_rows_per_second=None,
    cores=2,
    environment={},
)


def seconds(strategy: str, workers: int, **settings: int) -> float:
    return (
        SpeedPredictor(MEASURED, SpeedSettings(**settings)).predict(strategy, workers).step_seconds
    )


@pytest.mark.parametrize(
    ("strategy", "workers", "settings", "milliseconds"),
    [
        ("mirrored", 1, {}, 10 + 30),
        # Packs of 4 and 8 ms + 2 ms; the backward pass is 20 ms, a third of which is before the
        # first: it ends at 12.7, the second begins at 20 and ends at 30.
        ("ring", 2, {}, 40 + 10),
        # On 4 workers 6 messages of a quarter: 12 and 18 ms; ends at 18.7 and at 38.
        ("ring", 4, {}, 40 + 18),
        ("compressed", 2, {}, 40 + 6),
        # 36000 bytes: 38 ms every 19 steps.
        ("local_updates", 2, {"every": 19}, 40 + 2),
        # Pull and push 12000 bytes: 13 ms each.
        ("parameter_servers", 2, {"servers": 2}, 40 + 26),
        # One server sends 12 ms to each of 8 workers.
        ("parameter_servers", 8, {"servers": 1}, 8 * 12),
        # 30 ms on 3 stages, and 2 of 8 parts more of waiting; then 6 + 10 ms.
        ("pipeline", 2, {"stages": 3, "microbatches": 8}, 10 + 10 * 10 / 8 + 16),
        # The ring, and a gather of 12000 bytes: 1 + 6 ms.
        ("sharded_1", 2, {}, 40 + 10 + 7),
        ("sharded_3", 2, {}, 40 + 10 + 14),
        ("ring", 2, {"global_batch_size": 30}, 10 + 15 + 10),
    ],
)
def test_a_step_is_as_worked_out_by_hand(
    strategy: str, workers: int, settings: dict[str, int], milliseconds: float
) -> None:
    assert seconds(strategy, workers, **settings) == pytest.approx(1e-3 * milliseconds)


def test_parts_add_up_and_the_largest_is_the_bottleneck() -> None:
    predictor = SpeedPredictor(MEASURED, SpeedSettings())
    for each in predictor.all():
        assert sum(each.parts.values()) == pytest.approx(each.step_seconds)
        assert each.bottleneck == max(each.parts, key=lambda name: each.parts[name])
        assert each.low_seconds <= each.step_seconds <= each.high_seconds
        assert each.examples_per_second == pytest.approx(each.global_batch_size / each.step_seconds)
    assert {each.strategy for each in predictor.all()} == {*STRATEGIES}
    assert predictor.predict("ring", 4096).bottleneck == "communication"
    assert predictor.predict("mirrored", 1).bottleneck == "compute"


def test_efficiency_is_that_of_one_replica() -> None:
    predictor = SpeedPredictor(MEASURED, SpeedSettings())
    assert predictor.predict("ring", 1).efficiency == pytest.approx(1.0)
    assert predictor.predict("ring", 2).efficiency == pytest.approx(40 / 50)
    # 3 devices for each replica.
    staged = SpeedPredictor(MEASURED, SpeedSettings(stages=3)).predict("pipeline", 2)
    assert staged.efficiency == pytest.approx(40 / 38.5 / 3)


def test_slow_input_is_waited_for() -> None:
    slow = dataclasses.replace(MEASURED, input_rows_per_second=500.0)
    found = SpeedPredictor(slow, SpeedSettings()).predict("ring", 2)
    assert found.step_seconds == pytest.approx(30 / 500)
    assert found.parts["input"] == pytest.approx(0.06 - 0.05)


def test_what_was_not_measured_is_marked() -> None:
    predictor = SpeedPredictor(MEASURED, SpeedSettings())
    exact = predictor.predict("ring", 2)
    assert not exact.is_extrapolated
    assert exact.low_seconds == pytest.approx(exact.step_seconds)
    assert predictor.predict("ring", 4).is_extrapolated
    assert predictor.predict("pipeline", 1).is_extrapolated
    assert predictor.predict("mirrored", 1, 4).is_extrapolated
    assert SpeedPredictor(MEASURED, SpeedSettings(rows=91)).predict("mirrored", 1).is_extrapolated
    nominal = SpeedPredictor(MEASURED, SpeedSettings(), LinkLaw(1e-3, 1e-6))
    assert nominal.predict("ring", 2).is_extrapolated
    assert nominal.predict("ring", 2).step_seconds == pytest.approx(exact.step_seconds)


def test_a_latency_of_few_workers_may_be_that_of_a_call() -> None:
    found = SpeedPredictor(MEASURED, SpeedSettings()).predict("ring", 4)
    # 2 ms of latency instead of 6: the last pack takes 14 ms; nothing hidden: 12 + 18 ms.
    assert found.low_seconds == pytest.approx(0.040 + 0.014)
    assert found.high_seconds == pytest.approx(0.040 + 0.030)


def test_what_is_done_around_an_all_reduce_is_overhead() -> None:
    # 5 ms and 1 us a byte more than an all-reduce of 2 ms and 1 us a byte.
    small = tuple(SmallSteps(2, size, (0.107 + 2e-6 * size,), (0.1,)) for size in (1000, 4000))
    found = SpeedPredictor(
        dataclasses.replace(MEASURED, small_steps=small), SpeedSettings()
    ).predict("ring", 2)
    assert found.parts["overhead"] == pytest.approx(0.010 + 0.005 + 0.012)
    assert found.parts["communication"] == pytest.approx(0.010)


def test_time_and_cost_of_a_training() -> None:
    found = SpeedPredictor(MEASURED, SpeedSettings()).predict("ring", 2)  # 60 rows in 50 ms
    whole = training_cost(found, examples=4_320_000, cost_per_hour=2.5)
    assert (whole.hours, whole.cost) == pytest.approx((1.0, 5.0))


def test_parameter_servers_and_their_chief_cost_as_much_as_workers() -> None:
    step = SpeedPredictor(MEASURED, SpeedSettings(servers=3)).predict("parameter_servers", 2)
    whole = training_cost(step, examples=10**6, cost_per_hour=2.5, servers=3)
    assert whole.cost == pytest.approx(whole.hours * (2 + 3 + 1) * 2.5)


def test_a_file_of_measurements_is_read_back(tmp_path: Path) -> None:
    MEASURED.write(tmp_path / "measured.json")
    assert MeasuredSpeed.read(tmp_path / "measured.json") == MEASURED
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="`measured` must be a file that"):
        MeasuredSpeed.read(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rows": 30,', '"rows": 0,'),
        ("0.04", "-0.04"),
        ("0.04", "NaN"),
        ("0.04", ""),
        ('"rows": 10,', '"rows": 1.5,'),
        ('"replicas": 1,', '"replicas": 2,'),
        ('"workers": 2', '"workers": -2'),
        ('"cores": 2', '"cores": 0'),
        ('"cores": 2', '"cores": "2"'),
        ('"state_bytes": 36000', '"state_bytes": -1'),
        ('"version": 1', '"version": 2'),
        ("}", ""),
    ],
)
def test_a_damaged_file_of_measurements_is_refused(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "measured.json"
    MEASURED.write(file)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match="--write_measured=FILE` wrote"):
        MeasuredSpeed.read(file)


@pytest.mark.parametrize(
    ("settings", "strategy", "workers", "message"),
    [
        ({}, "rings", 2, "`strategy` must be of mirrored, ring"),
        ({}, "mirrored", 2, "`workers` must be 1 for mirrored. Received: workers=2"),
        ({}, "ring", 1.5, "`workers` must be an integer, at least 0. Received: workers=1.5"),
        ({}, "ring", 0, "`workers` must be at least 1. Received: workers=0"),
        ({"global_batch_size": 3}, "ring", 4, "`global_batch_size` must be at least the number"),
    ],
)
def test_the_impossible_is_refused(
    settings: dict[str, int], strategy: str, workers: int, message: str
) -> None:
    predictor = SpeedPredictor(MEASURED, SpeedSettings(**settings))
    with pytest.raises(ValueError, match=message):
        predictor.predict(strategy, workers)


def test_several_workers_need_a_link() -> None:
    alone = SpeedPredictor(dataclasses.replace(MEASURED, reduces=()), SpeedSettings())
    assert not alone.has_link
    with pytest.raises(ValueError, match="`link` must be known for several workers"):
        alone.predict("ring", 2)


def test_rows_and_a_global_batch_contradict() -> None:
    with pytest.raises(ValueError, match="`rows` must be left out with `global_batch_size`"):
        SpeedSettings(rows=3, global_batch_size=6)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="`strategy` must be of mirrored, ring"):
        list(SpeedPredictor(MEASURED, SpeedSettings()).all(["rings"]))


def test_one_number_of_workers_leaves_out_what_is_for_one() -> None:
    found = SpeedPredictor(MEASURED, SpeedSettings()).all(["mirrored", "ring"], counts=(4,))
    assert [(each.strategy, each.workers) for each in found] == [("ring", 4)]
