"""How well the suggested learning rate trains: beside the best of a grid of 20, with 3 seeds."""

from __future__ import annotations

import pytest

from tests.unit.tfscale.find.problems import PROBLEMS, quality

pytestmark = pytest.mark.own_process


@pytest.mark.thorough
def test_on_four_of_five_problems_the_loss_is_within_a_tenth_of_the_best() -> None:
    found = {make.__name__: quality(make()) for make in PROBLEMS}
    good = [name for name, each in found.items() if each.loss <= 1.1 * each.best_loss]
    assert len(good) >= 4, found
