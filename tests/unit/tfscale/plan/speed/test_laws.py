"""The laws of steps and links: planted values are found, and formulas worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tfscale.plan.speed import link_law, step_law
from tfscale.plan.speed.exchange import hidden_by_backward
from tfscale.plan.speed.link_law import LinkLaw
from tfscale.plan.speed.step_law import StepLaw

ALPHA, BETA = 4e-4, 2e-9


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_a_planted_latency_and_bandwidth_are_found(workers: int) -> None:
    sizes = [2**12, 2**16, 2**20, 2**24]
    messages = 2 * (workers - 1)
    times = {size: messages * ALPHA + messages / workers * size * BETA for size in sizes}
    law = link_law.fitted(times, workers)
    assert law.latency == pytest.approx(ALPHA)
    assert law.seconds_per_byte == pytest.approx(BETA)
    assert law.relative_error == pytest.approx(0.0, abs=1e-9)
    assert law.all_reduce(2**22, workers) == pytest.approx(
        messages * ALPHA + messages / workers * 2**22 * BETA
    )


def test_noise_of_5_percent_moves_a_bandwidth_by_less_than_that() -> None:
    noise = np.random.default_rng(0)
    times = {
        size: 2 * (ALPHA + size / 2 * BETA) * noise.uniform(0.95, 1.05)
        for size in (2**12, 2**16, 2**18, 2**20, 2**22, 2**24)
    }
    law = link_law.fitted(times, workers=2)
    assert law.seconds_per_byte == pytest.approx(BETA, rel=0.05)
    assert law.relative_error <= 0.1


def test_a_ring_of_four_sends_six_messages_of_a_quarter() -> None:
    # 6 (0.5 + 100 * 0.01) = 9
    assert LinkLaw(0.5, 0.01).all_reduce(400, workers=4) == pytest.approx(9.0)
    assert LinkLaw(0.5, 0.01).gather(400, workers=4) == pytest.approx(4.5)
    assert LinkLaw(0.5, 0.01).all_reduce(400, workers=1) == 0.0


def test_a_data_sheet_is_in_bits() -> None:
    assert link_law.nominal(0.0, 1e9).message(125_000_000) == pytest.approx(1.0)
    measured = link_law.LinkLaw(5.0, 6.0, step_latency=0.25, step_seconds_per_byte=0.5)
    other = link_law.nominal(0.0, 1e9, measured)
    assert (other.message(125_000_000), other.around(4)) == pytest.approx((1.0, 2.25))


def test_planted_lines_of_steps_are_found_for_each_number_of_replicas() -> None:
    seconds = {
        (replicas, rows): [0.001 * replicas + rows * row_seconds * factor for factor in (1, 1, 5)]
        for replicas, row_seconds in ((1, 2e-4), (2, 3e-4))
        for rows in (8, 32, 128)
    }
    law = step_law.fitted(seconds, cores=2)
    assert law.fixed == pytest.approx({1: 0.001, 2: 0.002})
    assert law.by_row == pytest.approx({1: 2e-4, 2: 3e-4})
    assert law.rows == (8, 128)
    assert law.is_measured(2, 64)
    assert not law.is_measured(2, 256)
    assert not law.is_measured(4, 64)


@pytest.mark.parametrize(
    ("cores", "replicas", "expected"),
    [
        pytest.param(None, 8, (8.0, 2.0), id="accelerators do not share"),
        pytest.param(2, 8, (8.0, 8.0), id="both cores were full: four times two replicas"),
        pytest.param(16, 8, (8.0, 8.0), id="the second replica took as much again"),
        pytest.param(4, 3, (3.0, 3.0), id="between the counts"),
    ],
)
def test_replicas_beyond_the_measured_ones(
    cores: int | None, replicas: int, expected: tuple[float, float]
) -> None:
    law = StepLaw({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}, (1, 8), cores)
    assert law.parts(replicas, 1) == pytest.approx(expected)


def test_one_replica_on_one_core_leaves_the_others_free() -> None:
    law = StepLaw({1: 1.0, 2: 1.0}, {1: 1.0, 2: 1.0}, (1, 8), cores=4)
    assert law.parts(4, 1) == pytest.approx((1.0, 1.0))
    assert law.parts(8, 1) == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize(
    ("backward", "host_share", "exposed"),
    [
        pytest.param(0.0, 0.0, 6.0, id="nothing to hide behind"),
        pytest.param(3.0, 0.0, 4.0, id="ready at 1, 2, 3; ends at 3, 5, 7"),
        pytest.param(30.0, 0.0, 2.0, id="the last pack is never hidden"),
        pytest.param(30.0, 1.0, 6.0, id="the processors are busy with all of it"),
        pytest.param(30.0, 0.5, 4.0, id="with a half"),
    ],
)
def test_packs_travel_while_earlier_layers_are_computed(
    backward: float, host_share: float, exposed: float
) -> None:
    found = hidden_by_backward([5, 5, 5], [2.0, 2.0, 2.0], backward, host_share)
    assert found.exposed == pytest.approx(exposed)
    assert found.total == 6.0


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`times` must have at least 2 sizes. Received: \[8\]"):
        link_law.fitted({8: 1.0}, workers=2)
    with pytest.raises(ValueError, match="`workers` must be at least 2"):
        link_law.fitted({8: 1.0, 16: 2.0}, workers=1)
    with pytest.raises(ValueError, match=r"2 numbers of rows for 1 replicas. Received: \[8\]"):
        step_law.fitted({(1, 8): [1.0]})
