"""At most one job holds a folder, for every order of the steps of several jobs."""

from __future__ import annotations

import random

import pytest

from tests.unit.tfscale.checkpoints.simulated_jobs import (
    PERIODS,
    Disturbance,
    Job,
    Store,
    jobs_of,
    simulate,
)

SEEDS = 300
"""Simulated runs of a test, 2 ms each."""


def at_most_one(jobs: list[Job]) -> None:
    assert sum(job.believes() for job in jobs) <= 1


def run(
    seed: int, *, disturbance: Disturbance, spread: float, lag: float = PERIODS.settle
) -> list[Job]:
    """Runs 2 to 4 jobs that arrive within `spread` seconds."""
    draw = random.Random(seed)
    store = Store()
    count = draw.randint(2, 4)
    arrivals = [draw.uniform(0, spread) for _ in range(count)]
    jobs = list(jobs_of(store, draw, lag, arrivals, [draw.uniform(0, 20) for _ in arrivals]))
    simulate(jobs, store, draw, disturbance, at_most_one)
    return jobs


@pytest.mark.parametrize("spread", [0.0, 1.0, 20.0])
@pytest.mark.parametrize(
    "disturbance",
    [Disturbance(), Disturbance(pause=0.2), Disturbance(pause=0.2, crash=0.01)],
    ids=["none", "stopped", "stopped and killed"],
)
def test_at_most_one_job_holds_the_folder_at_any_time(
    spread: float, disturbance: Disturbance
) -> None:
    held = 0
    for seed in range(SEEDS):
        held += sum(job.has_held for job in run(seed, disturbance=disturbance, spread=spread))
    assert held > SEEDS // 2


@pytest.mark.thorough
def test_at_most_one_job_holds_the_folder_in_thousands_of_orders() -> None:
    for seed in range(SEEDS, 10_000):
        disturbance = Disturbance(pause=[0.0, 0.05, 0.2][seed % 3], crash=[0.0, 0.01][seed % 2])
        run(seed, disturbance=disturbance, spread=[0.0, 1.0, 20.0, 60.0][seed % 4])


def test_of_jobs_that_come_together_one_trains_and_the_others_are_refused() -> None:
    for seed in range(SEEDS):
        jobs = run(seed, disturbance=Disturbance(), spread=1.0)
        assert [job.has_held for job in jobs].count(True) >= 1
        for job in jobs:
            assert job.has_held != job.was_refused
            assert not job.claimant.is_lost


def test_a_killed_job_is_replaced_after_the_stale_period() -> None:
    draw = random.Random(0)
    store = Store()
    first, second = jobs_of(store, draw, 0.0, [0.0, 10.0], [1e6, 3.0])

    def kill_at_9(jobs: list[Job]) -> None:
        at_most_one(jobs)
        if store.time >= 9 and not first.is_over:
            first.crash()

    simulate([first, second], store, draw, Disturbance(), kill_at_9)
    assert second.has_held
    assert PERIODS.stale <= second.waited < PERIODS.stale + 10 * PERIODS.poll


def test_a_job_that_wakes_up_after_its_successor_has_ended_knows_that_it_lost() -> None:
    draw = random.Random(0)
    store = Store()
    first, second, third = jobs_of(store, draw, 0.0, [0.0, 10.0, 30.0], [1e6, 3.0, 3.0])

    def stop_from_9_to_100(jobs: list[Job]) -> None:
        at_most_one(jobs)
        if 9 <= store.time < 100:
            first.wakes = 100.0

    simulate([first, second, third], store, draw, Disturbance(), stop_from_9_to_100)
    assert second.has_held
    assert third.has_held
    assert third.waited < 10 * PERIODS.settle
    assert "another job has taken over the checkpoints in gs://b/a" in first.claimant.is_lost


def test_a_lease_that_was_removed_by_hand_is_taken_again_if_the_folder_is_free() -> None:
    draw = random.Random(0)
    store = Store()
    (job,) = jobs_of(store, draw, 0.0, [0.0], [20.0])
    removed: list[str] = []

    def remove_at_5(jobs: list[Job]) -> None:
        if store.time >= 5 and not removed:
            removed.append(job.claimant.name)
            job.claimant.files.remove(job.claimant.name)

    simulate([job], store, draw, Disturbance(), remove_at_5)
    assert store.time >= 20
    assert not job.claimant.is_lost
    assert job.claimant.name not in removed
    assert not store.contents
