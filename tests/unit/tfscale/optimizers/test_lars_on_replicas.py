"""LARS on 2 replicas matches one device, and its files load without tfscale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import completed, forked

PROGRAM = Path(__file__).with_name("lars_on_replicas.py")
DEADLINE_S = 480
STRANGER = """
import sys
sys.modules.update(dict.fromkeys(["tfscale", "strategies", "recipes"]))  # importing them fails
import json, keras
keras.config.set_floatx("float64")
model = keras.models.load_model(sys.argv[1], compile=False)
print(json.dumps([weight.tolist() for weight in model.get_weights()]))
"""


def run(*arguments: str) -> str:
    result = completed(*forked(*arguments), timeout=DEADLINE_S)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lars")
    run(str(PROGRAM), str(folder))
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "found.json").read_text()))


def compare(found: list[Any], wanted: list[Any], tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("variant", ["nesterov, clipping", "accumulating, averaging"])
def test_two_replicas_train_what_one_device_trains(found: dict[str, Any], variant: str) -> None:
    one_device, mirrored = found[variant]
    compare(mirrored, one_device, 1e-12)


def test_the_variants_train_different_models(found: dict[str, Any]) -> None:
    trained = [found["plain"], found["nesterov, clipping"][0], found["accumulating, averaging"][0]]
    assert len({json.dumps(weights) for weights in trained}) == 3


def test_a_loaded_model_goes_on_as_the_saved_one(found: dict[str, Any]) -> None:
    name, config = found["classes"]
    assert name == "LARS"
    assert config["learning_rate"]["registered_name"] == "tfscale>Adjustable"
    assert config["learning_rate"]["config"]["factor"] == 0.5
    loaded, saved = found["continued"]
    compare(loaded, saved, 1e-12)


def test_a_file_loads_where_tfscale_cannot_be_imported(folder: Path, found: dict[str, Any]) -> None:
    weights = json.loads(run("-c", STRANGER, str(folder / "model.keras")).splitlines()[-1])
    compare(weights, found["plain"], 0)
