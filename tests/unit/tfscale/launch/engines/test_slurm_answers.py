"""Where a job stands: answers of `scontrol show job --oneliner` of Slurm 22.05.8, recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.launch.engines import State
from tfscale.launch.engines.slurm.answers import jobs_of, status_of
from tfscale.launch.engines.slurm.starts import FAILED, PREEMPTED, SUCCEEDED, StartEnd, Starts
from tfscale.launch.outcome import WorkerFailure

# Shortened: fields that do not matter here are left out.
PENDING = """\
JobId=6 JobName=wrap UserId=root(0) GroupId=root(0) JobState=PENDING Reason=BeginTime Dependency=\
(null) Requeue=0 Restarts=0 ExitCode=0:0 RunTime=00:00:00 NodeList= NumNodes=2-2 NumCPUs=2
"""
RUNNING = """\
JobId=9 JobName=my job JobState=RUNNING Reason=None Requeue=1 Restarts=0 ExitCode=0:0 \
Partition=main AllocNode:Sid=localhost:19796 NodeList=n[2,10] BatchHost=n2 NumNodes=2 NumCPUs=2
"""
REQUEUED = """\
JobId=2 JobName=b.sh JobState=PENDING Reason=Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved\
_for_jobs_in_higher_priority_partitions Dependency=(null) Requeue=1 Restarts=1 NodeList=
"""
ENDS = {
    "failed": "JobId=4 JobState=FAILED Reason=NonZeroExitCode Restarts=0 ExitCode=3:0 NodeList=n2",
    "killed": "JobId=4 JobState=FAILED Reason=JobLaunchFailure Restarts=0 ExitCode=0:9 NodeList=n2",
    "cancelled": "JobId=5 JobState=CANCELLED Reason=None Restarts=0 ExitCode=0:15 NodeList=n2",
    "completed": "JobId=7 JobState=COMPLETED Reason=None Restarts=0 ExitCode=0:0 NodeList=n2",
}
ARRAY = """\
JobId=3 ArrayJobId=3 ArrayTaskId=4-5%2 JobState=PENDING Reason=JobArrayTaskLimit NodeList=
JobId=10 ArrayJobId=3 ArrayTaskId=3 JobState=RUNNING Reason=None Restarts=0 NodeList=n2
JobId=9 ArrayJobId=3 ArrayTaskId=2 JobState=RUNNING Reason=None Restarts=0 NodeList=n2
JobId=8 ArrayJobId=3 ArrayTaskId=1 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n2
JobId=7 ArrayJobId=3 ArrayTaskId=0 JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=n2
"""
CANCELLED_ARRAY = """\
JobId=3 ArrayJobId=3 ArrayTaskId=4294967294 JobState=CANCELLED Reason=JobArrayTaskLimit NodeList=
JobId=7 ArrayJobId=3 ArrayTaskId=0 JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=n2
"""


def ended(folder: Path, *ends: StartEnd, is_over: bool, member: str = "") -> None:
    starts = Starts(folder, member)
    for end in ends:
        starts.begin("n[1-2]")
        starts.end(end)
    if is_over:
        starts.finish()


PREEMPTION = StartEnd(PREEMPTED, "preempted, all saved", 42, WorkerFailure(0, 42, 90.0))
FAILURE = StartEnd(FAILED, "worker 1 failed first: exit status 7", 7, WorkerFailure(1, 7, 5.0))
SUCCESS = StartEnd(SUCCEEDED, "every worker succeeded", 0)


def test_values_with_spaces_are_whole() -> None:
    job = jobs_of(RUNNING)[0]
    assert (job["JobName"], job["JobState"], job["NodeList"]) == ("my job", "RUNNING", "n[2,10]")


def test_a_job_waits_and_says_for_what(tmp_path: Path) -> None:
    status = status_of(jobs_of(PENDING), tmp_path, "")
    assert (status.state, status.detail) == (State.PENDING, "Waits in the queue: BeginTime.")


def test_a_job_that_has_run_before_is_requeued(tmp_path: Path) -> None:
    ended(tmp_path, PREEMPTION, is_over=False)
    status = status_of(jobs_of(REQUEUED), tmp_path, "")
    assert status.state is State.REQUEUED
    assert status.detail == (
        "Waits in the queue: Nodes required for job are DOWN, DRAINED or reserved for jobs in "
        "higher priority partitions. Preempted, all saved."
    )


def test_a_running_job_says_where(tmp_path: Path) -> None:
    ended(tmp_path, PREEMPTION, is_over=False)
    Starts(tmp_path).begin("n[2,10]")
    status = status_of(jobs_of(RUNNING), tmp_path, "")
    assert (status.state, status.detail, status.restarts) == (State.RUNNING, "On n[2,10].", 1)


@pytest.mark.parametrize(
    ("answer", "state", "exit_status"),
    [
        ("failed", State.FAILED, 3),
        ("killed", State.FAILED, 137),
        ("cancelled", State.STOPPED, 143),
        ("completed", State.SUCCEEDED, 0),
    ],
)
def test_without_a_record_the_end_is_what_slurm_says(
    tmp_path: Path, answer: str, state: State, exit_status: int
) -> None:
    status = status_of(jobs_of(ENDS[answer]), tmp_path, "")
    assert (status.state, status.exit_status) == (state, exit_status)


@pytest.mark.parametrize("answer", [ENDS["failed"], ""])
def test_the_record_says_why_also_if_slurm_has_forgotten_the_job(
    tmp_path: Path, answer: str
) -> None:
    ended(tmp_path, FAILURE, FAILURE, is_over=True)
    status = status_of(jobs_of(answer), tmp_path, "")
    assert (status.state, status.exit_status, status.restarts) == (State.FAILED, 7, 1)
    assert status.detail == "Worker 1 failed first: exit status 7."


def test_a_forgotten_job_that_never_ended_here_is_unknown(tmp_path: Path) -> None:
    ended(tmp_path, PREEMPTION, is_over=False)
    status = status_of([], tmp_path, "")
    assert (status.state, status.detail) == (
        State.UNKNOWN,
        "Slurm has forgotten it. Preempted, all saved.",
    )


def test_a_forgotten_job_that_its_user_stopped_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert status_of([], tmp_path, "").state is State.STOPPED


def test_an_array_runs_while_a_member_runs_and_counts_its_members(tmp_path: Path) -> None:
    status = status_of(jobs_of(ARRAY), tmp_path, "0-5%2")
    assert (status.state, status.exit_status) == (State.RUNNING, None)
    assert status.detail == (
        "6 members: 1 succeeded, 1 failed, 2 running, 2 pending. "
        "Member 1: Slurm says FAILED, NonZeroExitCode."
    )


def test_an_array_has_failed_if_a_member_has(tmp_path: Path) -> None:
    for member, end in (("array-0", SUCCESS), ("array-1", FAILURE), ("array-2", SUCCESS)):
        ended(tmp_path, end, is_over=True, member=member)
    status = status_of([], tmp_path, "0-2")
    assert (status.state, status.exit_status) == (State.FAILED, 7)
    assert status.detail == (
        "3 members: 2 succeeded, 1 failed. Member 1: Worker 1 failed first: exit status 7."
    )


def test_what_is_left_of_a_cancelled_array_is_stopped(tmp_path: Path) -> None:
    status = status_of(jobs_of(CANCELLED_ARRAY), tmp_path, "0-2")
    assert (status.state, status.detail) == (
        State.STOPPED,
        "3 members: 1 succeeded, 2 stopped.",
    )


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text("{")
    with pytest.raises(ValueError, match=r"starts\.json is not a record of starts"):
        status_of([], tmp_path, "")
