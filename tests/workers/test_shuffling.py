"""Two workers train on the same order of examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.workers.conftest import Cases
from tests.workers.job import Found
from tests.workers.small_models import ROWS


@pytest.mark.parametrize("case", ["unseeded", "seeded_differently"])
def test_every_example_is_trained_on_once_an_epoch(both: Cases, case: str) -> None:
    for found in both(case):
        assert found["visits"] == [[1.0] * ROWS, [2.0] * ROWS]


@pytest.mark.parametrize("case", ["seeded_alike", "shuffled_dataset"])
def test_workers_with_one_seed_match_one_device(both: Cases, one_device: Found, case: str) -> None:
    for found in both(case):
        wanted = one_device[case]["weights"]
        np.testing.assert_allclose(found["weights"], wanted, rtol=1e-12)


def test_an_agreed_seed_is_the_same_on_all_workers_and_is_removed_afterwards(both: Cases) -> None:
    first, second = both("seeds")
    for name in ("none", "different", "same"):
        assert first[name] == second[name]
    assert first["same"] == first["one device"]
    assert first["different"] != first["none"] != first["same"]
    assert [first[f"{name}, left"] for name in ("none", "different", "same")] == [None, 20, 30]
    assert second["different, left"] == 21


def test_an_agreed_seed_does_not_restart_the_users_random_operations(both: Cases) -> None:
    for worker in both("drawn_around"):
        assert worker["between"] == worker["without"]
        assert worker["without"][0] != worker["without"][1]


@pytest.mark.parametrize("kind", ["same seed", "global seed", "seeded inside", "no shuffle"])
def test_a_dataset_that_every_worker_shuffles_alike_is_accepted(both: Cases, kind: str) -> None:
    assert [worker[kind] for worker in both("shuffles")] == ["accepted"] * 2


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("no seed", "[(0, 0)]", "[(0, 0)]"),
        ("no seed, repeated", "[(0, 0)]", "[(0, 0)]"),
        ("no seed, fused", "[(0, 0)]", "[(0, 0)]"),
        ("inside", "[(0, 0)]", "[(0, 0)]"),
        ("other seeds", "10)]", "11)]"),
        ("one worker only", "worker 0: []", "5)]"),
    ],
)
def test_a_dataset_that_workers_shuffle_differently_is_refused_with_its_seeds(
    both: Cases, kind: str, first: str, second: str
) -> None:
    for worker in both("shuffles"):
        error = worker[kind]
        assert error.startswith("`x` must be in the same order on every worker")
        seeds = error.partition("Received: ")[2].partition(", where")[0]
        assert first in seeds.partition("; ")[0]
        assert second in seeds.partition("; ")[2]
        assert "the same `seed` everywhere" in error


def test_a_shuffle_inside_interleave_is_found(both: Cases) -> None:
    for worker in both("shuffles"):
        assert worker["seeds inside"] == [[0, 0]]


def test_fit_refuses_an_unseeded_shuffle_on_both_workers(
    failed: Callable[[str], list[Found]],
) -> None:
    for worker in failed("unseeded_shuffle"):
        assert worker["kind"] == "ValueError"
        assert "worker 0: [(0, 0)]; worker 1: [(0, 0)], where (0, 0) means no" in worker["error"]
