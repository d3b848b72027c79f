"""`tfscale bench memory`: real processes, and the need of a model by hand."""

from __future__ import annotations

import json

import pytest

from tests.programs import completed
from tfscale.bench.memory import needed_bytes
from tfscale.bench.models import MODELS, model_named
from tfscale.bench.peers.environment import reason_missing

COMMAND = ("-m", "tfscale", "bench", "memory", "--json", "--rounds=2", "--threads=2")


@pytest.mark.thorough
def test_a_model_adds_what_it_needs_to_the_memory_of_the_libraries() -> None:
    flags = ("--models=mlp_3000000", "--variants=imported,one_device")
    done = completed(*COMMAND, *flags, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    need, imported, trained = json.loads(done.stdout)["rows"]
    assert need["value"]["median"] == pytest.approx(4 * 4 * 3e6 / 2**20, rel=0.01)
    beyond = trained["facts"]["beyond libraries"]
    expected = trained["value"]["median"] - imported["value"]["median"]
    assert beyond == pytest.approx(expected, abs=1)
    assert beyond > 0.9 * need["value"]["median"]
    assert trained["facts"]["steady"] <= trained["facts"]["all"] + 1


@pytest.mark.thorough
def test_memory_of_workers_is_that_of_the_largest_and_of_all() -> None:
    done = completed(*COMMAND, "--models=tiny_mlp", "--variants=workers", timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    _, workers = json.loads(done.stdout)["rows"]
    assert 1.5 < workers["facts"]["all"] / workers["value"]["median"] <= 2.01


def test_torch_has_its_own_libraries() -> None:
    if reason := reason_missing("torch"):
        pytest.skip(reason)
    done = completed(*COMMAND, "--models=mlp", "--variants=torch_imported,torch", timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    need, _, trained = json.loads(done.stdout)["rows"]
    assert trained["facts"]["beyond libraries"] > need["value"]["median"]


def test_the_need_is_parameters_gradients_slots_and_a_batch() -> None:
    # 108 parameters; 8 rows of 8 and of 4 float32.
    assert needed_bytes("tiny_mlp") == 4 * 4 * 108 + 8 * (8 + 4) * 4


@pytest.mark.parametrize("name", [*MODELS, "mlp_10000"])
def test_the_number_of_parameters_is_that_of_keras(name: str) -> None:
    named = model_named(name)
    assert named.compiled().count_params() == named.parameters


def test_an_unknown_model_is_wrong_usage() -> None:
    done = completed(*COMMAND, "--models=mlp,large", timeout=60)
    assert done.returncode == 2
    assert "must be names of tiny_mlp, mlp, cnn, transformer or mlp_N, separated" in done.stderr
