"""Two workers find one learning rate, and train afterwards as if they had not looked for it."""

from __future__ import annotations

from tests.workers.conftest import Cases


def test_two_workers_find_the_same_rate(both: Cases) -> None:
    first, second = both("found_rates")
    assert first["suggestion"] == second["suggestion"]
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) >= 10


def test_two_workers_train_as_without_it(both: Cases) -> None:
    for worker in both("found_rates"):
        alone, after = worker["ends"]
        assert after == alone
