"""Two workers print once, and do not change the user's random states."""

from __future__ import annotations

from tests.workers.conftest import Cases
from tests.workers.job import Found


def test_only_the_chief_prints_what_keras_prints(both: Cases) -> None:
    chief, other = both("printed")
    assert other["lines"] == ["own line", "own line", "after"]
    said = "\n".join(chief["lines"])
    assert said.count("LearningRateScheduler setting learning rate") == 2
    assert said.count("own line") == 2
    assert "1/9" in said
    assert said.count("1/1 - ") == 2  # evaluate and predict


def test_only_the_chief_warns_of_what_keras_warns_of(both: Cases) -> None:
    chief, other = both("printed")
    assert other["warned"] == ["own warning"] * 2
    for words in ("Your input ran out of data", "no such metric"):
        assert any(words in warning for warning in chief["warned"])


def test_training_draws_from_random_states_as_on_one_device(both: Cases, one_device: Found) -> None:
    assert both("drawn") == [one_device["drawn"]] * 2


def test_agreeing_on_a_seed_does_not_change_random_states(both: Cases) -> None:
    assert both("kept") == [{"same": True}] * 2
