"""Jobs on a real Slurm of two hosts, n2 and n10, whose order is not that of their names as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines.slurm.cluster import SlurmCluster, why_not
from tests.engines.slurm.jobs import TRAINING, Jobs, weights
from tests.programs import run_program

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(why_not()), reason=f"no Slurm here: {why_not()}"),
]
MEETING = ("python", "-m", "tests.engines.slurm.meeting")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), ("n2", "n10")) as cluster:
        yield cluster


@pytest.fixture
def jobs(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Jobs]:
    yield Jobs(slurm, tmp_path)
    slurm.end_all_jobs()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """The weights after a training on one device that nothing interrupts."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_program("-m", "tests.engines.slurm.training", str(folder), "--one_device", timeout=300)
    return weights(folder)


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("num_workers", "flags", "expected"),
    [
        pytest.param(2, ("ntasks_per_node=1",), "n2 n10", id="one worker a host"),
        pytest.param(4, ("ntasks_per_node=2",), "n2 n2 n10 n10", id="block, two a host"),
        pytest.param(
            4,
            ("ntasks_per_node=2", "distribution=cyclic"),
            "n2 n10 n2 n10",
            id="cyclic, two a host",
        ),
        pytest.param(
            6, ("nodes=2", "distribution=plane=2"), "n2 n2 n10 n10 n2 n2", id="plane, four and two"
        ),
        pytest.param(
            5, ("nodes=2", "distribution=cyclic"), "n2 n10 n2 n2 n2", id="cyclic, four and one"
        ),
        pytest.param(1, ("nodelist=n10",), "n10", id="a single worker"),
    ],
)
def test_every_worker_finds_every_other_where_it_is(
    jobs: Jobs, tmp_path: Path, num_workers: int, flags: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "met").mkdir()
    options = [f"--option={flag}" for flag in flags]
    command = (*MEETING, str(tmp_path / "met"))
    job = jobs.submit(f"--num_workers={num_workers}", *options, "--", *command)
    jobs.wait(job)
    places = [
        re.fullmatch(rf"worker-{index} on (\S+) met all\n", jobs.log(job, log))
        for index in range(num_workers)
        for log in [f"worker-{index}.attempt-0.log"]
    ]
    assert " ".join(place[1] for place in places if place) == expected


def test_parameter_servers_and_their_chief_are_tasks_of_one_step(
    jobs: Jobs, tmp_path: Path
) -> None:
    (tmp_path / "met").mkdir()
    flags = ("--num_workers=2", "--num_ps=1", "--option=ntasks_per_node=2")
    job = jobs.submit(*flags, "--", *MEETING, str(tmp_path / "met"))
    found = jobs.wait(job)
    assert found["detail"] == "The chief succeeded."
    places = {
        name: jobs.log(job, f"{name}.attempt-0.log")
        for name in ("chief", "worker-0", "worker-1", "ps-0")
    }
    assert places == {
        "chief": "chief-0 on n2 met all\n",
        "worker-0": "worker-0 on n2 met all\n",
        "worker-1": "worker-1 on n10 met all\n",
        "ps-0": "ps-0 on n10 met all\n",
    }


def test_a_job_that_fails_is_started_again_in_its_allocation_and_ends_with_its_cause(
    jobs: Jobs, tmp_path: Path
) -> None:
    program = (
        "import os, pathlib, sys, time\n"
        "restart = os.environ['TFSCALE_RESTART']\n"
        f"here = pathlib.Path({str(tmp_path)!r}, restart)\n"
        "print('start', restart, flush=True)\n"
        "if os.environ['SLURM_PROCID'] == '0': here.touch(); time.sleep(600)\n"
        "while not here.exists(): time.sleep(0.1)\n"
        "sys.exit(7)"
    )
    flags = ("--num_workers=2", "--option=ntasks_per_node=1", "--max_restarts=1")
    job = jobs.submit(*flags, "--", "python", "-c", program)
    found = jobs.wait(job, state="failed")
    assert found["detail"].startswith("Worker 1 failed first: exit status 7 after")
    assert (found["exit_status"], found["restarts"]) == (7, 1)
    for restart in (0, 1):
        for worker in (0, 1):
            log = f"worker-{worker}.attempt-{restart}.log"
            assert jobs.log(job, log) == f"start {restart}\n"
    batch = jobs.log(job, "batch.log")
    assert "all workers start again in 1 s: 1 of 1 restarts used." in batch
    assert "not started again: 1 of 1 restarts are used." in batch


def test_a_preempted_job_saves_is_requeued_and_resumes_to_the_undisturbed_result(
    jobs: Jobs, slurm: SlurmCluster, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    flags = ("--num_workers=2", "--option=ntasks_per_node=1", "--option=exclusive=yes")
    job = jobs.submit(*flags, "--", *TRAINING, str(tmp_path), "--pace_seconds=0.5")
    jobs.until_printed(job, "batch 5\n")
    slurm.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 3")
    jobs.until_printed(job, "requeues job", "batch.log")
    found = jobs.wait(job)
    assert found["restarts"] == 1
    first, second = (jobs.log(job, f"worker-0.attempt-{start}.log") for start in (0, 1))
    assert "SIGTERM: saving after the next steps, then exiting with status 42" in first
    assert "trained" not in first
    last = int(re.findall(r"^batch (\d+)$", first, re.MULTILINE)[-1])
    # Nothing is trained twice: it resumes at the batch that follows.
    assert re.findall(r"^batch (\d+)$", second, re.MULTILINE)[0] == str(last + 1)
    assert "start 1" in jobs.log(job, "batch.log")
    same(weights(tmp_path), undisturbed)


def test_a_lost_host_requeues_the_job_which_resumes_when_the_host_is_back(
    jobs: Jobs, slurm: SlurmCluster, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    flags = ("--num_workers=2", "--option=ntasks_per_node=1")
    job = jobs.submit(*flags, "--", *TRAINING, str(tmp_path), "--pace_seconds=0.5")
    jobs.until_printed(job, "batch 5\n")
    slurm.lose("n10")
    jobs.until(lambda: jobs.status(job)["state"] == "requeued", "the requeued job", job)
    slurm.give_back("n10")
    found = jobs.wait(job)
    assert found["restarts"] >= 1
    assert "begins at" in jobs.log(job, f"worker-0.attempt-{found['restarts']}.log")
    assert "begins at None" not in jobs.log(job, f"worker-0.attempt-{found['restarts']}.log")
    same(weights(tmp_path), undisturbed)


def test_a_job_array_is_a_job_for_each_member(jobs: Jobs) -> None:
    program = (
        "import os, sys\n"
        "print(os.environ['TFSCALE_JOB_ID'], os.environ['SLURM_ARRAY_TASK_ID'])\n"
        "sys.exit(9 if os.environ['SLURM_ARRAY_TASK_ID'] == '2' else 0)"
    )
    flags = ("--num_workers=2", "--option=array=0-2", "--option=ntasks_per_node=1")
    job = jobs.submit(*flags, "--", "python", "-c", program)
    found = jobs.wait(job, state="failed")
    assert found["exit_status"] == 9
    assert "3 members: 2 succeeded, 1 failed. Member 2: Worker" in found["detail"]
    for member in range(3):
        logs = {jobs.log(job, f"array-{member}/worker-{worker}.attempt-0.log") for worker in (0, 1)}
        # The first worker of member 2 that fails may end the other before it prints.
        assert logs - ({""} if member == 2 else set()) == {f"{job}-array-{member} {member}\n"}
    printed = jobs.tfscale("jobs", "logs", job).stdout
    assert f"[array 1/worker-1] {job}-array-1 1" in printed


def test_the_end_is_known_after_slurm_has_forgotten_the_job(
    jobs: Jobs, slurm: SlurmCluster
) -> None:
    job = jobs.submit("--num_workers=1", "--", "python", "-c", "raise SystemExit(3)")
    number = jobs.record(job)["engine_id"]

    def is_forgotten() -> bool:
        return "Invalid job id" in slurm.complaint("scontrol", "show", "job", number)

    jobs.until_printed(job, "exit status 3", "batch.log")
    jobs.until(is_forgotten, "MinJobAge to be over", job)
    found = jobs.wait(job, state="failed")
    assert found["exit_status"] == 3
    assert found["detail"].startswith("Worker 0 failed first: exit status 3")


def test_stacks_of_every_worker_are_in_its_log_and_stop_lets_it_save(
    jobs: Jobs, tmp_path: Path
) -> None:
    flags = ("--num_workers=2", "--option=ntasks_per_node=1", "--grace_seconds=60")
    job = jobs.submit(*flags, "--", *TRAINING, str(tmp_path), "--pace_seconds=0.5")
    jobs.until_printed(job, "batch 5\n")
    done = jobs.tfscale("jobs", "stacks", job)
    assert done.returncode == 0, done.stderr
    assert "asked 2 processes" in done.stderr
    for worker in (0, 1):
        log = jobs.log(job, f"worker-{worker}.attempt-0.log")
        assert re.search(r'File ".*trainer.py", line \d+ in fit\n', log)
        assert f"[worker {worker}]   File" in done.stdout

    stopped = jobs.tfscale("jobs", "stop", job)
    assert stopped.returncode == 0, stopped.stderr
    assert "has ended: stopped. Stopped, all saved before." in stopped.stderr
    assert jobs.status(job)["exit_status"] == 42
    assert "requeues" not in jobs.log(job, "batch.log")


def test_stop_kills_workers_that_ignore_sigterm_after_the_grace(jobs: Jobs) -> None:
    program = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(999)"
    )
    job = jobs.submit("--num_workers=2", "--grace_seconds=2", "--", "python", "-c", program)
    jobs.until_printed(job, "deaf")
    assert jobs.tfscale("jobs", "stop", job).returncode == 0
    assert jobs.status(job)["state"] == "stopped"


def test_stop_takes_a_waiting_job_out_of_the_queue(jobs: Jobs) -> None:
    job = jobs.submit("--num_workers=1", "--option=dependency=afterok:1", "--", "true")
    first = jobs.submit("--num_workers=2", "--option=exclusive=yes", "--", "sleep", "99")
    waiting = jobs.submit("--num_workers=8", "--", "true")
    jobs.until(lambda: jobs.status(waiting)["state"] == "pending", "a queue", waiting)
    assert jobs.tfscale("jobs", "stop", waiting).returncode == 0
    assert jobs.status(waiting)["state"] == "stopped"
    assert jobs.tfscale("jobs", "stop", first).returncode == 0
    assert jobs.status(job)["state"] != "running"


def test_before_its_time_limit_a_job_saves_and_is_requeued(jobs: Jobs) -> None:
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
        "time.sleep(600 if os.environ['TFSCALE_RESTART'] == '0' else 0)"
    )
    flags = ("--num_workers=2", "--time_limit=1m", "--grace_seconds=20", "--early_seconds=0")
    job = jobs.submit(*flags, "--option=ntasks_per_node=1", "--", "python", "-c", program)
    found = jobs.wait(job)
    assert found["restarts"] == 1
    assert "preempted, all saved." in jobs.log(job, "batch.log")


def test_asynchronous_training_with_a_parameter_server_on_two_hosts(jobs: Jobs) -> None:
    flags = ("--num_workers=2", "--num_ps=1", "--option=ntasks_per_node=2")
    job = jobs.submit(*flags, "--", "python", "-m", "recipes.examples.parameter_server")
    jobs.wait(job)
    assert "loss" in jobs.log(job, "chief.attempt-0.log")


def test_the_digits_recipe_reaches_its_accuracy(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.submit(
        *("--num_workers=2", "--option=ntasks_per_node=1", "--"),
        *("python", "-m", "recipes.image_classification", "--dataset=digits"),
        *("--distribution_strategy=multi_worker_mirrored", f"--model_dir={tmp_path}/digits"),
    )
    jobs.wait(job)
    summary = json.loads((tmp_path / "digits/summary.json").read_text())
    # That of `make train` on one host; an image more or less is 0.003.
    assert summary["test_accuracy"] == pytest.approx(0.9917, abs=0.003)
