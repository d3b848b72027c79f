"""A job on a real Slurm whose number of workers changes: one of its three hosts is lost."""

from __future__ import annotations

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


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[SlurmCluster]:
    (tmp_path / "slurm").mkdir()
    with SlurmCluster(tmp_path / "slurm", ("n2", "n10", "n11")) as cluster:
        yield cluster


def test_a_lost_host_leaves_a_smaller_job_with_the_undisturbed_result(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    jobs = Jobs(slurm, tmp_path)
    (tmp_path / "run").mkdir()
    command = (*TRAINING, str(tmp_path / "run"), "--pace_seconds=0.5")
    job = jobs.submit("--num_workers=2:3", "--", *command)
    jobs.until_printed(job, "batch 5\n")
    slurm.lose("n11")
    found = jobs.wait(job)
    assert found["restarts"] == 1, jobs.output(job)
    batch = jobs.log(job, "batch.log")
    assert "start 0 on n2,n10,n11." in batch
    assert "start 1 on n2,n10." in batch
    assert "requeues" not in batch
    assert "begins at None" not in jobs.log(job, "worker-0.attempt-1.log")
    assert not jobs.log(job, "worker-2.attempt-1.log")
    (tmp_path / "undisturbed").mkdir()
    run_program(*TRAINING[1:], str(tmp_path / "undisturbed"), "--one_device", timeout=300)
    for one, other in zip(
        weights(tmp_path / "run"), weights(tmp_path / "undisturbed"), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
