"""A start of a job recognises earlier starts of the same job."""

from __future__ import annotations

import pytest

from strategies.cluster.environments import JobStart, job_starts


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        pytest.param({}, (), id="no job"),
        pytest.param(
            {"TFSCALE_JOB_ID": "ab", "TFSCALE_RESTART": "3"},
            (JobStart("tfscale launch", "ab", 3),),
            id="the launcher's fourth start",
        ),
        pytest.param({"TFSCALE_RESTART": "3"}, (), id="a restart of a job without a name"),
        pytest.param(
            {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "west"},
            (JobStart("Slurm", "7 of west", 0),),
            id="Slurm counts only requeues",
        ),
        pytest.param(
            {"AWS_BATCH_JOB_ID": "x", "AWS_BATCH_JOB_ATTEMPT": "1"},
            (JobStart("AWS Batch", "x", 1),),
            id="AWS counts from 1",
        ),
        pytest.param(
            {"TFSCALE_JOB_ID": "ab", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"},
            (JobStart("tfscale launch", "ab", 0), JobStart("Slurm", "7", 2)),
            id="a launcher in a Slurm job",
        ),
    ],
)
def test_the_environment_names_jobs_and_their_starts(
    environ: dict[str, str], found: tuple[JobStart, ...]
) -> None:
    assert job_starts(environ) == found


def test_a_count_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`TFSCALE_RESTART` must be an integer, at least 0"):
        job_starts({"TFSCALE_JOB_ID": "ab", "TFSCALE_RESTART": "often"})
