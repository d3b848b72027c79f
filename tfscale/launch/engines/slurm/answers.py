"""Where a job stands, from what `scontrol show job` answers and what the batch job has recorded.

Slurm knows what waits and runs; the record (`starts.json`) knows why a job ended, also after
slurmctld has forgotten it. Reads text and files only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfscale.launch.engines.engine import JobStatus, State
from tfscale.launch.engines.slurm.options import array_members
from tfscale.launch.engines.slurm.starts import FAILED, HOST_LOST, SUCCEEDED, Starts
from tfscale.launch.engines.slurm.supervise import STOP_FILE

Fields = Mapping[str, str]
"""A job as `scontrol show job --oneliner` shows it: JobState, Reason, NodeList, ..."""

_STATES = {
    **dict.fromkeys(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"), State.PENDING),
    **dict.fromkeys(("RESV_DEL_HOLD", "SPECIAL_EXIT"), State.PENDING),
    **dict.fromkeys(("RUNNING", "CONFIGURING", "COMPLETING", "RESIZING"), State.RUNNING),
    **dict.fromkeys(("SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"), State.RUNNING),
    "COMPLETED": State.SUCCEEDED,
    **dict.fromkeys(("CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED"), State.STOPPED),
    **dict.fromkeys(("FAILED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"), State.FAILED),
    "LAUNCH_FAILED": State.FAILED,
}
_LARGEST_MEMBER = 4_000_000
"""Slurm gives what is left of a cancelled array a number above it."""


def jobs_of(answer: str) -> list[Fields]:
    """Returns the jobs of an answer, one of a job, several of a job array.

    Args:
        answer: What `scontrol show job ID --oneliner` printed.

    Example:
        >>> jobs_of("JobId=7 JobName=my job JobState=RUNNING Reason=None NodeList=n[1-2]")[0]
        {'JobId': '7', 'JobName': 'my job', 'JobState': 'RUNNING', 'Reason': 'None', \
'NodeList': 'n[1-2]'}
    """
    # A value may have spaces: it ends where the next name begins.
    pattern = re.compile(r"(\S+?)=(.*?)(?= [A-Za-z/:&]+=|$)")
    lines = [line.strip() for line in answer.splitlines() if line.startswith("JobId=")]
    return [dict(pattern.findall(line)) for line in lines]


def status_of(jobs: Sequence[Fields], folder: Path, array: str) -> JobStatus:
    """Returns where a job stands.

    Args:
        jobs: What Slurm knows; empty if it has forgotten the job.
        folder: The job's folder.
        array: The members of a job array, in Slurm's notation; empty without one.
    """
    if not array:
        return _one(jobs[0] if jobs else None, folder, "")
    known = {number: job for job in jobs for number in _members(job)}
    rest = next((job for job in jobs if not _members(job)), None)
    members = {
        number: _one(known.get(number, rest), folder, f"array-{number}")
        for number in array_members(array)
    }
    return _together(members)


def _members(job: Fields) -> tuple[int, ...]:
    """Returns the members of a job array that a job stands for, several while they wait."""
    text = job.get("ArrayTaskId", "")
    if text.isdigit() and int(text) > _LARGEST_MEMBER:
        return ()
    try:
        return array_members(text)
    except ValueError:
        return ()


def _one(job: Fields | None, folder: Path, member: str) -> JobStatus:
    starts = Starts(folder, member)
    restarts = max(0, len(starts.all) - 1)
    over, last = starts.over, starts.all[-1].end if starts.all else None
    if over is not None:
        states = {SUCCEEDED: State.SUCCEEDED, FAILED: State.FAILED, HOST_LOST: State.FAILED}
        state = states.get(over.kind, State.STOPPED)
        return JobStatus(state, f"{_sentence(over.said)}", over.status, restarts)
    said = f" {_sentence(last.said)}" if last is not None else ""
    if job is None:
        if (folder / STOP_FILE).exists():
            return JobStatus(State.STOPPED, f"Stopped by its user.{said}", None, restarts)
        return JobStatus(State.UNKNOWN, f"Slurm has forgotten it.{said}", None, restarts)
    word = job.get("JobState", "").partition(" ")[0]
    state = _STATES.get(word, State.UNKNOWN)
    if state is State.PENDING:
        state = State.REQUEUED if starts.all else State.PENDING
        detail = f"Waits in the queue: {job.get('Reason', '').replace('_', ' ')}.{said}"
        return JobStatus(state, detail, None, restarts)
    if state is State.RUNNING:
        return JobStatus(state, f"On {job.get('NodeList', '')}.", None, restarts)
    detail = f"Slurm says {word}, {job.get('Reason', '')}.{said}"
    return JobStatus(state, detail, _exit_status(job.get("ExitCode", "")), restarts)


def _exit_status(text: str) -> int | None:
    """Returns the status of Slurm's "3:0" (status:signal) as a shell would show it."""
    found = re.fullmatch("([0-9]+):([0-9]+)", text)
    if found is None:
        return None
    return 128 + int(found[2]) if int(found[2]) else int(found[1])


def _together(members: Mapping[int, JobStatus]) -> JobStatus:
    """Returns where a job array stands: it runs while one member runs, fails if one failed."""
    counts = Counter(status.state for status in members.values())
    order = (State.RUNNING, State.REQUEUED, State.PENDING, State.FAILED, State.UNKNOWN)
    state = next(state for state in (*order, State.STOPPED, State.SUCCEEDED) if counts[state])
    parts = [f"{count} {each.value}" for each, count in counts.items()]
    failed = [number for number, status in members.items() if status.state is State.FAILED]
    why = f" Member {failed[0]}: {members[failed[0]].detail}" if failed else ""
    codes = [status.exit_status for status in members.values() if status.exit_status is not None]
    return JobStatus(
        state,
        f"{len(members)} members: {', '.join(parts)}.{why}",
        max(codes, default=None) if state.is_over else None,
        sum(status.restarts or 0 for status in members.values()),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
