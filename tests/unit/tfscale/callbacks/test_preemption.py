"""SIGTERM to any worker: all save the same step and end with status 42, and nothing is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import forked, run_program

PROGRAM = Path(__file__).with_name("preempted_training.py")
DEADLINE_S = 400

# Case, options, and the position saved: epoch, step, batches. 10 steps an epoch, 3 epochs. The
# signal comes before the callback looks, in the same execution, unless it comes while it saves.
ONE = [
    ("mid-epoch", {"at": 13}, [1, 3, 13]),
    ("while saving", {"at": "save 12", "every": 12}, [1, 3, 13]),
    ("steps per execution", {"at": 5, "steps_per_execution": 3}, [1, 3, 13]),
    ("mixed_float16", {"at": 13, "dtype": "mixed_float16"}, [1, 3, 13]),
    ("local updates", {"at": 13, "local": True, "every": "epoch"}, [2, 0, 20]),
]
ONE_AT_LENGTH = [
    ("validation", {"at": "validation 10"}, [1, 0, 10]),
    ("before the first step", {"at": "begin 0"}, [0, 1, 1]),
    ("after the last step", {"at": "end"}, [3, 0, 30]),
]
# Worker 0 or 1 is told, one of them being slower. The other one is counted in at the end of that
# execution or of the next, and then all stop one later. With local updates, at the epoch's end.
TWO = [
    ("fast worker 1 told", {"at": 13, "worker": 1, "seconds": [0.03, 0.0]}, range(14, 17)),
    ("end of an epoch", {"at": 10, "worker": 1}, [10]),
]
TWO_AT_LENGTH = [
    ("slow worker 0 told", {"at": 13, "worker": 0, "seconds": [0.03, 0.0]}, range(14, 17)),
    ("validation", {"at": "validation 20", "worker": 1}, [20]),
    ("after the last step", {"at": "end", "worker": 1}, [30]),
    ("local updates", {"at": 13, "worker": 1, "local": True, "every": "epoch"}, [20]),
]
ON_TWO = ["-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable]


class Found:
    """What came of the cases of one job."""

    def __init__(self, folder: Path, *launch: str, cases: list[Any]) -> None:
        self.folder = folder
        plan: list[dict[str, Any]] = [{"name": "whole"}]
        if not launch:
            plan.append({"name": "whole steps per execution", "steps_per_execution": 3})
            plan.append({"name": "whole mixed_float16", "dtype": "mixed_float16"})
            plan.append({"name": "error", "at": "error 4"})
        for name, options, _ in cases:
            plan.append({"name": name, **options})
            resumed = {key: value for key, value in options.items() if key not in ("at", "seconds")}
            plan.append({"name": f"{name}, resumed", "folder": name, **resumed})
        self.printed = run_program(
            *launch, *forked(str(PROGRAM), str(folder), json.dumps(plan)), timeout=DEADLINE_S
        )

    def __call__(self, name: str, worker: int = 0) -> dict[str, Any]:
        return dict(json.loads((self.folder / f"{name}.{worker}.json").read_text()))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("one"), cases=ONE)


@pytest.fixture(scope="module")
def one_at_length(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("one_at_length"), cases=ONE_AT_LENGTH)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("two"), *ON_TWO, cases=TWO)


@pytest.fixture(scope="module")
def two_at_length(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("two_at_length"), *ON_TWO, cases=TWO_AT_LENGTH)


@pytest.mark.parametrize(("name", "options", "position"), ONE)
def test_sigterm_saves_where_training_stands_and_the_rest_equals_the_undisturbed_run(
    one: Found, name: str, options: dict[str, Any], position: list[int]
) -> None:
    require_nothing_lost(one, name, options, position)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "options", "position"), ONE_AT_LENGTH)
def test_sigterm_outside_of_steps_loses_nothing(
    one_at_length: Found, name: str, options: dict[str, Any], position: list[int]
) -> None:
    require_nothing_lost(one_at_length, name, options, position)


def require_nothing_lost(
    one: Found, name: str, options: dict[str, Any], position: list[int]
) -> None:
    told, resumed = one(name), one(f"{name}, resumed")
    assert (told["status"], told["position"]) == (42, position)
    assert (resumed["status"], resumed["resumed_from"]) == (0, position)
    assert resumed["position"] == [3, 0, 30]
    has_own_whole = options.keys() & {"steps_per_execution", "dtype"}
    whole = one(f"whole {name}" if has_own_whole else "whole")
    assert resumed["variables"] == whole["variables"]
    if position[0] < 3:
        epochs = {name: all_[position[0] :] for name, all_ in whole["history"].items()}
        assert resumed["history"] == epochs


def test_the_loss_scale_and_its_count_of_good_steps_go_on(one: Found) -> None:
    # 8, doubled after each 10 good steps; Keras counts from 0 again after each doubling.
    assert sorted(one("mixed_float16")["loss_scale"]) == [3.0, 16.0]
    assert sorted(one("mixed_float16, resumed")["loss_scale"]) == [0.0, 64.0]


def test_the_earlier_handler_is_back_after_training_and_after_an_error(one: Found) -> None:
    assert (one("whole")["status"], one("whole")["heard"]) == (0, ["earlier"])
    assert (one("error")["status"], one("error")["heard"]) == ("error", ["earlier"])
    assert one("mid-epoch")["heard"] == []  # the second signal changed nothing


def test_sigterm_is_reported(one: Found) -> None:
    assert "SIGTERM: saving after the next steps, then exiting with status 42" in one.printed
    assert "SIGTERM: saving at the end of this epoch" in one.printed


@pytest.mark.parametrize(("name", "options", "batches"), TWO)
def test_all_workers_save_the_same_step_whichever_is_told(
    two: Found, name: str, options: dict[str, Any], batches: Any
) -> None:
    require_one_save(two, name, options, batches)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "options", "batches"), TWO_AT_LENGTH)
def test_all_workers_save_the_same_step_at_length(
    two_at_length: Found, name: str, options: dict[str, Any], batches: Any
) -> None:
    require_one_save(two_at_length, name, options, batches)


def require_one_save(two: Found, name: str, options: dict[str, Any], batches: Any) -> None:
    told = [two(name, worker) for worker in range(2)]
    assert [found["status"] for found in told] == [42, 42]
    assert told[0]["position"] == told[1]["position"]
    assert told[0]["position"][2] in batches
    for worker in range(2):
        resumed = two(f"{name}, resumed", worker)
        assert resumed["resumed_from"] == told[0]["position"]
        if "local" not in options:
            assert resumed["variables"] == two("whole", worker)["variables"]


@pytest.mark.thorough
def test_a_job_is_started_again_and_ends_with_the_weights_of_the_undisturbed_one(
    two: Found, tmp_path: Path
) -> None:
    plan = [{"name": "run", "at": 13, "worker": 1, "exit": True}]
    launch = ["-m", "tfscale", "launch", "--num_workers=2", "--max_restarts=1", "--"]
    printed = run_program(
        *launch, sys.executable, str(PROGRAM), str(tmp_path), json.dumps(plan), timeout=DEADLINE_S
    )
    assert "was preempted, all saved (exit status 42 after" in printed
    assert "not counted (preempted); 0 of 1 restarts used." in printed
    for worker in range(2):
        found = json.loads((tmp_path / f"run.{worker}.json").read_text())
        assert found["resumed_from"][2] in range(14, 17)
        assert found["variables"] == two("whole", worker)["variables"]
