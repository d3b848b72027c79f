"""The exit reason of a process that fails, in real processes and for constructed errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strategies.cluster.exit_reason import exit_reason_of, read_exit_reason
from tests.programs import completed

BEGIN = (
    "import sys\n"
    "from strategies.cluster.exit_reason import write_exit_reason_at_end, note_error\n"
    "write_exit_reason_at_end('worker', 0)\n"
)


class AbortedError(Exception):
    """An error as TensorFlow raises it."""

    __module__ = "tensorflow.python.framework.errors_impl"


def late(task: str) -> TimeoutError:
    error = TimeoutError(f"{task} did not reach 'fit()' within 300 s.")
    error.__dict__["at_fault"] = task
    return error


ABORTED = (
    "Graph execution error:\n\nDetected at node CollectiveReduceV2 defined at (most recent call):\n"
    "Collective ops is aborted by: Error reported from /job:worker/task:1: worker 1 failed with "
    "ValueError: a row of letters"
)


@pytest.mark.parametrize(
    ("error", "is_own", "at_fault"),
    [
        pytest.param(ValueError("a row of letters"), True, "", id="its own"),
        pytest.param(AbortedError(ABORTED), False, "worker 1", id="another's failure"),
        pytest.param(
            AbortedError("The following tasks are unhealthy:\n/job:worker/replica:0/task:1"),
            False,
            "worker 1",
            id="another's silence",
        ),
        pytest.param(AbortedError("Socket closed"), False, "", id="a connection that broke"),
        pytest.param(
            AbortedError("/job:worker/replica:0/task:0/device:CPU:0: no such kernel"),
            True,
            "",
            id="its own device",
        ),
        pytest.param(late("worker 1"), False, "worker 1", id="one that did not come"),
        pytest.param(ValueError("/job:worker/task:1"), True, "", id="a word of the user's"),
    ],
)
def test_an_error_is_caused_by_this_task_or_by_the_one_it_names(
    error: Exception, is_own: bool, at_fault: str
) -> None:
    reason = exit_reason_of(error, "worker 0")
    assert (reason.is_own, reason.at_fault) == (is_own, at_fault)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("word " * 80, "word " * 58 + "word...", id="at a word"),
        pytest.param("a " + "path" * 80, "a " + "path" * 73 + "pat...", id="in a long word"),
    ],
)
def test_a_long_message_is_cut_between_words_and_marked(text: str, why: str) -> None:
    assert exit_reason_of(ValueError(text), "worker 0").why == f"ValueError: {why}"
    assert len(why) <= 300


def test_an_error_that_follows_the_failure_of_another_task_is_caused_by_it() -> None:
    try:
        try:
            raise AbortedError(ABORTED)
        except AbortedError as error:
            raise RuntimeError("the training has failed") from error
    except RuntimeError as error:
        reason = exit_reason_of(error, "worker 0")
    assert (reason.is_own, reason.at_fault) == (False, "worker 1")
    assert reason.why == "RuntimeError: the training has failed"
    assert "a row of letters" in reason.traceback
    assert reason.traceback.rstrip().endswith(reason.why)


def test_the_line_that_says_what_happened_is_kept() -> None:
    why = exit_reason_of(AbortedError(ABORTED), "worker 0").why
    assert why.startswith("AbortedError: Collective ops is aborted by: Error reported from")


def test_the_line_of_the_error_in_a_generator_is_kept() -> None:
    text = (
        "Graph execution error:\n\nDetected at node PyFunc defined at (most recent call last):\n"
        "ValueError: a row of letters\nTraceback (most recent call last):\n\n"
        '  File "train.py", line 3, in rows\n    raise ValueError("a row of letters")\n\n'
        "ValueError: a row of letters\n\n\n\t [[{{node PyFunc}}]] [Op:__inference_run_one_1]"
    )
    why = exit_reason_of(AbortedError(text), "worker 0").why
    assert why == "AbortedError: ValueError: a row of letters"


@pytest.mark.parametrize(
    ("program", "status", "why"),
    [
        pytest.param("raise ValueError('a row of letters')", 1, "a row of letters", id="uncaught"),
        pytest.param(
            "note_error(OSError('the disk is full')); sys.exit(3)",
            3,
            "the disk is full",
            id="caught, and ended with a status",
        ),
        pytest.param(
            "note_error(OSError('the disk is full')); note_error(None); sys.exit(3)",
            3,
            None,
            id="overcome",
        ),
        pytest.param("sys.exit(3)", 3, None, id="no error"),
    ],
)
def test_a_process_writes_why_it_ended(
    tmp_path: Path, program: str, status: int, why: str | None
) -> None:
    path = tmp_path / "reason.json"
    done = completed("-c", BEGIN + program, timeout=60, TFSCALE_EXIT_REASON=str(path))
    assert done.returncode == status
    reason = read_exit_reason(path)
    assert (reason and reason.why.partition(": ")[2]) == why


def test_a_file_that_cannot_be_replaced_is_written_to(tmp_path: Path) -> None:
    """As /dev/termination-log of a pod, which is a mount, beside which no file can be made."""
    path = tmp_path / "termination-log"
    path.touch()
    path.with_suffix(".part").mkdir()
    program = f"{BEGIN}raise ValueError('a row')"
    completed("-c", program, timeout=120, TFSCALE_EXIT_REASON=str(path))
    reason = read_exit_reason(path)
    assert reason is not None
    assert (reason.why, reason.is_own) == ("ValueError: a row", True)


def test_a_child_process_does_not_write_the_exit_reason(tmp_path: Path) -> None:
    path = tmp_path / "reason.json"
    child = "import os; print(os.environ.get('TFSCALE_EXIT_REASON'))"
    program = f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    done = completed("-c", BEGIN + program, timeout=60, TFSCALE_EXIT_REASON=str(path))
    assert done.stdout == "None\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"why": 1', json.dumps({"why": "x"}), "\xff"])
def test_a_damaged_file_is_no_exit_reason(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reason.json"
    path.write_text(text, "latin-1")
    assert read_exit_reason(path) is None
    assert read_exit_reason(tmp_path / "none.json") is None
