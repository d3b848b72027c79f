"""The plan of a step against what TensorFlow's allocator gives, in another process."""

from __future__ import annotations

import pytest

from tests.unit.tfscale.plan.comparison import CASES, measured, planned, sizes

pytestmark = pytest.mark.own_process

WITHIN = 0.15
FURTHER_OFF = ("LSTM", "MLP in mixed_float16")
"""Turns of a loop overlap; kernels of CPUs multiply float16 in copies in float32."""


def check(name: str) -> None:
    case = CASES[name]
    memory, found = planned(case), measured(case)
    assert memory.parameters + memory.slots == max(found.stored.values())
    requested, blocks = sizes(case, memory)
    assert requested == pytest.approx(found.requested, rel=WITHIN)
    assert blocks == pytest.approx(found.blocks, rel=WITHIN)


def test_an_mlp_takes_what_was_planned() -> None:
    check("MLP")


@pytest.mark.thorough
@pytest.mark.parametrize("name", [each for each in CASES if each not in ("MLP", *FURTHER_OFF)])
def test_a_training_takes_what_was_planned(name: str) -> None:
    check(name)
