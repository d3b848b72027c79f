"""Workers whose collectives run in MPI, started by `tfscale launch` and by mpiexec of MPICH."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment
from tests.workers.job import Found, launch, left

DEADLINE_SECONDS = 480
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def run(command: list[str], *statuses: int, **variables: str) -> str:
    """Runs a job, which must end with one of the statuses, or 0; returns what it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=own_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode in (statuses or (0,)), done.stdout[-6000:]
    return done.stdout


def launched(folder: Path, case: str, num_workers: int = 2, **variables: str) -> list[Found]:
    run([sys.executable, *launch("mpi", str(folder), case, num_workers=num_workers)], **variables)
    return left(folder, case, num_workers)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return launched(tmp_path_factory.mktemp("two"), "all")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return launched(tmp_path_factory.mktemp("three"), "all", num_workers=3)


def test_the_launcher_makes_each_worker_a_process_of_one_mpi_job(
    two: list[Found], three: list[Found]
) -> None:
    assert [found["world"] for found in two + three] == [2, 2, 3, 3, 3]


def test_a_killed_job_would_leave_no_shared_memory(two: list[Found], three: list[Found]) -> None:
    for found in two + three:
        assert found["mapped"] > 0
        assert found["files"] == []


def test_sums_of_every_dtype_and_shape_are_those_of_numpy(
    two: list[Found], three: list[Found]
) -> None:
    for found in two + three:
        assert found["sums"]["wrong"] == []


def test_what_is_not_a_number_is_refused_and_the_job_goes_on(two: list[Found]) -> None:
    for found in two:
        refused = [*found["sums"]["refused"], found["rows"]["string"]]
        for text, dtype in zip(refused, ("bool", "string", "string"), strict=True):
            assert f"Received: a tensor of {dtype}." in text


def test_every_worker_has_the_same_bits_of_a_rounded_sum(
    two: list[Found], three: list[Found]
) -> None:
    for workers in (two, three):
        assert len({found["sums"]["bits"] for found in workers}) == 1


def test_rows_are_gathered_in_the_order_of_the_workers(
    two: list[Found], three: list[Found]
) -> None:
    for workers, expected in ((two, [1, 2, 2]), (three, [1, 2, 2, 3, 3, 3])):
        for found in workers:
            assert found["rows"]["float32"] == found["rows"]["int64"] == expected
            assert found["rows"]["bfloat16"] == expected
            assert found["rows"]["bool"] == [1] * len(expected)


def test_a_thousand_steps_with_random_delays_have_the_right_sums(two: list[Found]) -> None:
    assert [found["steps_with_delays"] for found in two] == [{"steps": 1000, "wrong": 0}] * 2


@pytest.mark.thorough
def test_ten_thousand_steps_with_random_delays_have_the_right_sums(tmp_path: Path) -> None:
    many = launched(tmp_path, "steps_with_delays", STEPS="10000")
    assert many == [{"steps": 10000, "wrong": 0}] * 2


def test_a_step_takes_one_collective_with_loss_and_metrics(two: list[Found]) -> None:
    gradients_and_examples = str(8 * 4 + 4 + 4 + 1 + 1)
    for found in two:
        more = found["collectives_of_a_step"]["more"]
        assert more.pop(gradients_and_examples) == 20
        assert sum(more.values()) <= 2  # logs, which are read every 16 steps


def test_training_has_the_bits_of_tensorflows_ring(two: list[Found], tmp_path: Path) -> None:
    ring = launched(tmp_path, "training", ENGINE="ring")
    # A sum of two numbers does not depend on their order.
    assert [found["training"] for found in two] == ring
    assert two[0]["training"]["weights"] == two[1]["training"]["weights"]


def test_workers_whose_collectives_differ_all_refuse_them(tmp_path: Path) -> None:
    errors = [found["error"] for found in launched(tmp_path, "another_shape", num_workers=3)]
    for error in errors:
        assert "All workers must run the same collectives in the same order." in error
        assert "float32[3]; worker 2 at all-reduce" in error
        assert "float32[4]. Look for" in error


@pytest.mark.parametrize(
    ("how", "statuses", "text"),
    [
        ("kill 1", (137,), "worker 1 failed first: killed by SIGKILL"),
        pytest.param(
            "raise 1",
            (1,),
            "worker 1 failed first: exit status 1 after",
            marks=pytest.mark.thorough,
        ),
        pytest.param(  # 50 s: after so long TensorFlow misses the stopped worker's heartbeats
            "stop 1",
            (1,),
            "worker 1 failed first: worker 0 ended because of it",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            "stop 0",
            (1, 142),  # TensorFlow waits for the stopped worker at exit, which SIGALRM ends
            "Collective ops is aborted by: Deadline Exceeded",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_a_worker_that_ends_ends_the_others_too(
    tmp_path: Path, how: str, statuses: tuple[int, ...], text: str
) -> None:
    command = [sys.executable, *launch("mpi", str(tmp_path), "ended")]
    assert text in run(command, *statuses, HOW_IT_ENDS=how)


@pytest.mark.thorough
def test_a_program_that_imported_mpi4py_itself_does_not_hang_at_exit(tmp_path: Path) -> None:
    command = [sys.executable, *launch("mpi", str(tmp_path), "ended")]
    printed = run(command, 1, 137, HOW_IT_ENDS="stop 1", IMPORT_MPI="1")
    assert "worker 1 failed first: worker 0 ended because of it" in printed


def test_mpiexec_starts_workers_and_passes_on_the_status_42(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.workers.mpi", str(tmp_path), "sums"]
    run([str(MPIEXEC), "-n", "2", *program], 42, END_WITH="42")
    assert [found["wrong"] for found in left(tmp_path, "sums")] == [[], []]


def test_auto_chooses_mpi_where_the_launcher_offers_it_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, *launch("mpi", str(tmp_path), "training")]
    printed = run(command, ENGINE="auto")
    # Which one is faster is measured, so only a line that says it can be expected.
    assert re.search(r"all_reduce='auto' uses (MPI|TensorFlow's ring): 1 MiB took", printed)


def test_mpi_is_refused_where_no_launcher_offers_it(tmp_path: Path) -> None:
    variables = ["env", "-u", "PMI_PORT", "-u", "PMI_ID"]
    command = [sys.executable, *launch("mpi", str(tmp_path), "rows")]
    split = command.index("--") + 1
    printed = run([*command[:split], *variables, *command[split:]], 1)
    assert "`all_reduce` must not be 'mpi' where MPI is not available." in printed
    assert "on worker 0 no launcher of MPI started this process" in printed


@pytest.mark.thorough
def test_the_workers_of_a_job_do_not_see_the_mpi_of_the_launcher_itself(tmp_path: Path) -> None:
    command = [sys.executable, *launch("mpi", str(tmp_path), "rows")]
    run([str(MPIEXEC), "-n", "1", *command])
    assert os.environ.get("PMI_RANK") is None
    assert left(tmp_path, "rows")[1]["int64"] == [1, 2, 2]
