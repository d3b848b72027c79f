"""The plan of a step against what TensorFlow's allocator measures, in another process."""

from __future__ import annotations

import pytest

from tests.programs import completed
from tests.unit.tfscale.plan import planned_models
from tfscale.plan import memory_plan

pytestmark = pytest.mark.own_process


# Kernels of convolutions copy their inputs, more at a time on a busy host.
_WITHIN = {"cnn": 0.25}


def planned(function: str, replicas: int, microbatches: int, recompute: str) -> int:
    """Bytes of all replicas besides their variables."""
    build = getattr(planned_models, function)
    rows = len(build()[1][0])
    (only,) = memory_plan(
        build,
        replicas=replicas,
        global_batch_size=rows,
        shard=[0],
        microbatches=[microbatches],
        recompute=[recompute or "as_is"],
    ).configurations
    memory = only.memory
    return replicas * (memory.total - memory.parameters - memory.slots - memory.other)


def check(function: str, *, replicas: int = 1, microbatches: int = 1, recompute: str = "") -> None:
    arguments = (function, str(replicas), str(microbatches), recompute)
    done = completed("-m", planned_models.__name__, *arguments, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    measured = int(done.stdout.split()[-1])
    expected = planned(function, replicas, microbatches, recompute)
    assert expected == pytest.approx(measured, rel=_WITHIN.get(function, 0.15))


def test_activations_of_an_mlp_are_those_of_the_allocator() -> None:
    check("mlp")


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("function", ["mlp", "cnn", "transformer"])
def test_activations_are_those_of_the_allocator(function: str, replicas: int) -> None:
    check(function, replicas=replicas)


@pytest.mark.thorough
def test_recomputed_activations_are_those_of_the_allocator() -> None:
    check("transformer", recompute="block.*")


@pytest.mark.thorough
def test_gradients_and_the_packed_reduce_are_those_of_the_allocator() -> None:
    check("wide_mlp", replicas=2)


@pytest.mark.thorough
@pytest.mark.parametrize("function", ["mlp", "cnn", "transformer"])
def test_microbatches_are_those_of_the_allocator(function: str) -> None:
    check(function, microbatches=4)
