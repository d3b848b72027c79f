"""Models from `prepare` continue to train as in stock Keras on one device."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import completed, forked, run_program

PROGRAM = Path(__file__).with_name("prepared_training.py")
DEADLINE_SECONDS = 300
MODELS = ("sequential", "functional", "nested", "subclassed")


@pytest.fixture(scope="module")
def mirrored() -> dict[str, Any]:
    """The cases on two mirrored replicas, all in one child process."""
    done = completed(*forked(str(PROGRAM)), timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two workers found."""
    folder = tmp_path_factory.mktemp("workers")
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--grace_seconds=1", "--"]
    program = forked(str(PROGRAM), str(folder))
    run_program(*launch, sys.executable, *program, timeout=DEADLINE_SECONDS)
    return [json.loads((folder / f"{index}.json").read_text("utf-8")) for index in range(2)]


@pytest.mark.parametrize("name", MODELS)
def test_predictions_before_training_are_the_originals(mirrored: Any, name: str) -> None:
    assert mirrored[name]["apart_before"] < 1e-14


@pytest.mark.parametrize("name", MODELS)
def test_five_steps_and_five_after_prepare_are_ten_of_one_device(mirrored: Any, name: str) -> None:
    found = mirrored[name]
    assert found["apart"] < 1e-9 < 1e-3 < found["moved"]
    assert found["slots_apart"] < 1e-9
    assert found["history_apart"] < 1e-9
    assert found["steps_before"] == 5


@pytest.mark.parametrize("name", MODELS)
def test_the_original_stays_and_its_copy_is_of_its_class(mirrored: Any, name: str) -> None:
    found = mirrored[name]
    classes = {"sequential": "Sequential", "subclassed": "Net"}
    assert found["original_touched"] == 0
    assert found["class"] == classes.get(name, "Functional")
    assert found["names"][0] == found["names"][1]
    assert found["per_execution"] == [2, 2] if name == "subclassed" else [1, 1]


def test_a_float32_model_trains_as_if_built_in_float64_with_the_schedule(mirrored: Any) -> None:
    found = mirrored["widened"]
    assert found["dtypes"] == ["float64"]
    assert max(found["apart"], found["history_apart"]) < 1e-9


def test_a_schedule_goes_on_at_the_step_that_the_optimizer_had_reached(mirrored: Any) -> None:
    assert mirrored["scheduled"]["apart"] < 1e-12


def test_the_loss_scale_and_the_moments_under_it_are_kept(mirrored: Any) -> None:
    found = mirrored["scaled"]
    assert found["scale"] == 64
    assert found["counted"][0] == found["counted"][1]
    assert found["moments_apart"] == 0
    assert found["finite"]


def test_the_loss_scale_goes_where_nothing_is_float16(mirrored: Any) -> None:
    assert mirrored["scaled"]["unscaled"] == "Adam"


def test_two_workers_choose_together_and_say_so(workers: Any) -> None:
    said = [(found["policy"], found["reason"]) for found in workers]
    assert said == [("float32", "all 2 workers: no GPU or TPU")] * 2


def test_workers_that_ask_for_different_precisions_are_refused_on_both(workers: Any) -> None:
    for found in workers:
        said = "Received: worker 0 'float32', worker 1 'mixed_bfloat16'."
        assert "`precision` must be the same on all workers. " + said in found["different"]
        assert "worker 0 'auto', worker 1 'float32'" in found["one_auto"]
        assert found["kept"] == "float64"


def test_a_model_with_other_weights_on_each_worker_is_refused_on_both(workers: Any) -> None:
    for found in workers:
        assert "`model` must have the same weights" in found["other_weights"]
        assert "worker 0: " in found["other_weights"]


def test_two_workers_go_on_as_one_device(workers: Any) -> None:
    for found in workers:
        assert found["continued"]["apart"] < 1e-9
        assert found["continued"]["slots_apart"] < 1e-9


def test_a_function_gives_all_workers_one_model(workers: Any) -> None:
    assert workers[0]["weights"] == workers[1]["weights"]
