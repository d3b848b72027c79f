"""Two workers begin, stop and fail together."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.callback_orders import OF_USER
from tests.workers.conftest import Cases
from tests.workers.job import SOON_SECONDS, Found

Failed = Callable[[str], list[Found]]
DISK = "worker 1 failed with OSError: the disk is full"


@pytest.mark.parametrize(
    ("case", "epochs", "steps"),
    [
        pytest.param("early_stopping", 2, 2 * 3, id="EarlyStopping on val_loss"),
        pytest.param("at_an_epochs_end", 2, 2 * 3, id="one worker at an epoch's end"),
        pytest.param("in_mid_epoch", 1, 16, id="one worker in mid-epoch: after 16 executions"),
        pytest.param("in_mid_epoch_of_long_executions", 1, 16 * 2, id="of 2 steps each"),
        pytest.param("in_a_short_epoch", 1, 5, id="one worker, in an epoch of 5 steps"),
    ],
)
def test_a_stop_that_one_worker_asks_for_ends_both_at_the_same_step(
    both: Cases, case: str, epochs: int, steps: int
) -> None:
    assert both(case) == [{"epochs": epochs, "steps": steps}] * 2


def test_workers_agree_to_stop_after_the_users_callbacks_and_before_a_checkpoint(
    both: Cases,
) -> None:
    expected = [*OF_USER, "StopTogether", "Checkpoint"]
    assert both("callback_order") == [{"called": expected, "shown": expected}] * 2


def test_answers_come_in_the_order_of_the_workers(both: Cases) -> None:
    answers = {"own": ["I am 0\nof 2", "I am 1\nof 2"], "none": ["", ""]}
    assert both("answers") == [answers] * 2


def test_workers_at_different_rendezvous_are_both_named(both: Cases) -> None:
    for found in both("different_questions"):
        assert "All workers must make the same calls in the same order" in found["error"]
        assert "worker 0 at 'question 0', worker 1 at 'question 1'" in found["error"]


def test_the_rendezvous_waits_for_a_missing_worker_until_the_deadline(both: Cases) -> None:
    first, second = both("one_is_late")
    assert first["error"].startswith("worker 1 did not reach 'lunch?' within 0.5 s.")
    assert second["error"] == ""
    assert first["afterwards"] == second["afterwards"] == ["0", "1"]


def test_a_metric_made_outside_the_scope_is_refused_by_name(both: Cases) -> None:
    for found in both("stray_metric"):
        assert "must be made inside `strategy.scope()`" in found["error"]
        assert "its variable 'stray/total', made outside of it" in found["error"]
        assert "under `with strategy.scope():`." in found["error"]


def test_the_workers_parts_of_a_metric_are_gathered_by_one_function(both: Cases) -> None:
    found = {"reads": [[1.0, 2.0]] * 4, "phases": ["collective"]}
    assert both("metric_parts") == [found] * 2


def test_a_failure_of_one_ends_the_other_at_the_rendezvous_of_an_epochs_end(failed: Failed) -> None:
    waiting, failing = failed("at_a_rendezvous")
    assert (failing["kind"], failing["error"]) == ("OSError", "the disk is full")
    assert DISK in waiting["error"]
    assert waiting["at"] - failing["at"] < SOON_SECONDS


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_rendezvous_with_a_stopped_first_worker_ends_by_its_deadline(
    failed: Failed,
) -> None:
    stopped, other = failed("stopped_chief")
    assert other["kind"] == "TimeoutError"
    assert "did not accept this worker's answer to 'evaluate()' within 3 s" in other["error"]
    assert stopped["kind"] == ""


def test_evaluate_on_the_chief_only_fails_on_both_workers_soon(failed: Failed) -> None:
    found = failed("evaluate_on_the_chief")
    for worker in found:
        assert worker["kind"] == "RuntimeError"
        assert "worker 0 at 'evaluate()', worker 1 at 'fit()'" in worker["error"]
    assert abs(found[0]["at"] - found[1]["at"]) < SOON_SECONDS


def test_predictions_of_every_dtype_come_in_order(both: Cases) -> None:
    rows = [0.0, 1.0, 2.0, 3.0, 4.0]
    expected = {dtype: [dtype, rows] for dtype in ("bfloat16", "uint8", "int64")}
    assert both("outputs") == [{**expected, "bool": ["bool", [0.0, 1.0, 1.0, 1.0, 1.0]]}] * 2
