"""Two workers that get different arguments or data both raise, with the difference named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.dead_drive import dead_drive_missing
from tests.workers.job import SOON_SECONDS, Found, run_one_device, run_workers

CUT = "`x` must be the whole data on every worker"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return run_workers("disagreement", tmp_path_factory.mktemp("disagreement"), "refused")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run_one_device("disagreement", tmp_path_factory.mktemp("one-device"), "stock")


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("epochs", "worker 0: 2; worker 1: 3."),
        ("initial_epoch", "worker 0: 0; worker 1: 1."),
        ("steps_per_epoch", "worker 0: 2; worker 1: 3."),
        ("batch_size", "worker 0: 6; worker 1: 5."),
        ("class_weight", "worker 0: {'0': 1.0}; worker 1: {'0': 2.0}."),
        ("validation_data", "worker 0: given; worker 1: None."),
        ("callbacks", "worker 0: ['Watchdog']; worker 1: []."),
        ("steps", "worker 0: 1; worker 1: 2."),
    ],
)
def test_an_argument_that_differs_is_refused_by_name(
    found: list[Found], name: str, received: str
) -> None:
    for worker in found:
        said = f"`{name}` must be the same on every worker. Received: {received} Pass "
        assert worker[name].startswith(said)


@pytest.mark.parametrize(
    "name",
    [
        "rows cut",
        "weights of rows",
        "dataset cut",
        "dataset cut, no auto-sharding",
        "generator cut",
        "PyDataset cut",
        "pipeline cut",
        "validation cut",
        "evaluate on rows cut",
        "predict on rows cut",
    ],
)
def test_data_that_the_user_has_split_is_refused_with_the_way_to_pass_it(
    found: list[Found], name: str
) -> None:
    for worker in found:
        assert worker[name].startswith(CUT)
        assert "on worker 1 the first global batch has other rows" in worker[name]
        assert "strategy.distribute_datasets_from_function" in worker[name]


def test_the_same_rows_in_another_order_are_distinguished_from_other_rows(
    found: list[Found],
) -> None:
    for worker in found:
        error = worker["rows in another order"]
        assert error.startswith("`x` must come in the same order on every worker")
        assert "keras.utils.set_random_seed" in error


def test_generators_of_different_lengths_are_refused_with_the_shorter_ones_worker(
    found: list[Found],
) -> None:
    for worker in found:
        error = worker["generators of other length"]
        assert "the input of worker 1 ended after 2 steps, where the others had more" in error


def test_different_inputs_for_the_same_targets_are_reported_by_the_chief(
    found: list[Found],
) -> None:
    chief, other = found
    assert "has other inputs on worker 1 than on worker 0, with the same" in chief["augmented"]
    assert other["augmented"] == ""


@pytest.mark.parametrize(
    ("change", "argument", "received"),
    [
        ("add to weights", "`model` must have the same weights", "'sequential_1/dense_1/kernel'"),
        ("turn a sign", "`model` must have the same weights", "kernel' (of 2 variables) differs"),
        ("other rate", "`learning_rate` of the optimizer", "worker 0: 0.1; worker 1: 0.7"),
        ("other momentum", "`momentum` of the optimizer", "worker 0: 0.5; worker 1: 0.6"),
        ("move a slot", "`optimizer` must be in the same state", "bias_momentum' (of 4 variables)"),
    ],
)
def test_a_model_that_one_worker_has_changed_is_refused_by_fit(
    found: list[Found], change: str, argument: str, received: str
) -> None:
    for worker in found:
        assert worker[change].startswith(argument)
        assert received in worker[change]


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_evaluate_and_predict_refuse_other_weights_and_ignore_the_optimizer(
    found: list[Found], call: str
) -> None:
    for worker in found:
        assert worker[f"add to weights, {call}"].startswith("`model` must have the same weights")
        assert worker[f"other rate, {call}"] == ""


def test_a_rate_that_a_callback_changes_on_one_worker_is_refused_at_the_end_of_the_epoch(
    found: list[Found],
) -> None:
    for worker in found:
        assert "Received: worker 0: 0.1; worker 1: 0.3." in worker["rate in a callback"]


@pytest.mark.skipif(bool(dead_drive_missing()), reason=dead_drive_missing())
def test_an_outage_of_the_chiefs_storage_ends_all_workers_with_its_reason(
    found: list[Found],
) -> None:
    chief, other = found
    assert "cut-off/step-000000000003 failed while reading a checkpoint" in chief["cut off"]
    assert "not connected" in chief["cut off"]
    assert other["cut off"].endswith(chief["cut off"])


def test_all_workers_raise_that_another_job_saves_to_the_folder(found: list[Found]) -> None:
    chief, other = found
    assert "`directory` must be a folder that no other job saves to" in chief["another job"]
    assert "process 7 on host 'elsewhere'" in chief["another job"]
    assert other["another job"].endswith(chief["another job"])


@pytest.mark.parametrize("change", ["add to weights", "turn a sign", "other rate", "move a slot"])
def test_after_broadcast_workers_have_the_same_model(found: list[Found], change: str) -> None:
    assert [worker[f"{change}, sent"] for worker in found] == ["", ""]


def test_all_workers_get_the_value_of_the_first_to_the_bit(found: list[Found]) -> None:
    assert [worker["value"] for worker in found] == [[1 / 3, "x"]] * 2


def test_data_passed_as_the_messages_say_matches_one_device(
    found: list[Found], one_device: Found
) -> None:
    for worker in found:
        for name in ("weights", "loss", "best"):
            np.testing.assert_allclose(worker[name], one_device[name], rtol=1e-9)


@pytest.mark.parametrize(
    "case",
    ["ends_early", pytest.param("own_replica_batches_end_early", marks=pytest.mark.thorough)],
)
def test_input_that_ends_early_on_one_worker_ends_both_with_its_name(
    failed: Callable[[str], list[Found]], case: str
) -> None:
    waiting, ended = failed(case)
    message = "the input of worker 1 ended at step 2 of 4, where others had more"
    assert ended["kind"] == "ValueError"
    assert message in ended["error"]
    assert message in waiting["error"]
    assert waiting["at"] - ended["at"] < SOON_SECONDS
