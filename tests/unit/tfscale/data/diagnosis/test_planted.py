"""Planted bottlenecks are named by real measurements; healthy inputs raise no alarm."""

from __future__ import annotations

import pytest

from tests.unit.tfscale.data.diagnosis.planted import HEALTHY, PLANTED
from tfscale.data.diagnosis.diagnosis import Diagnosis, diagnosed
from tfscale.data.diagnosis.measurement import measured

pytestmark = pytest.mark.thorough


def found_in(data: object, model: object) -> tuple[Diagnosis, str]:
    """Returns the diagnosis, and the kind of the stage that it names."""
    measurement = measured(data, model, rounds=4, seconds=0.1)
    found = diagnosed(measurement.figures)
    kinds = {stage.name: stage.kind for stage in measurement.stages}
    print(found.text, found.advice, measurement.turns)
    return found, kinds.get(found.stage, "")


@pytest.mark.parametrize("name", list(PLANTED))
def test_planted_bottleneck_is_named(name: str) -> None:
    build, limit, kind, advice = PLANTED[name]
    found, found_kind = found_in(*build())
    assert (found.limit, found_kind) == (limit, kind)
    assert advice in found.advice[0]


@pytest.mark.parametrize("name", list(HEALTHY))
def test_healthy_input_raises_no_alarm(name: str) -> None:
    found, _ = found_in(*HEALTHY[name]())
    assert found.limit == "compute"
    assert found.advice == ()
