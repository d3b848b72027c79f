"""What `tfscale plan --what=job` writes for Slurm, as a real `sbatch --test-only` takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.slurm.cluster import SlurmCluster, why_not
from tests.unit.tfscale.plan.simulation.predicted_steps import step
from tfscale.plan import Circumstances, Failures, Saves, best_plan, launch_request

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(why_not()), reason=f"no Slurm here: {why_not()}"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), ("n1", "n2")) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("strategy", "workers", "tasks"),
    [("ring", 4, 4), ("sharded_2", 8, 8), ("parameter_servers", 2, 4)],
)
def test_slurm_takes_the_request_of_a_plan(
    slurm: SlurmCluster, tmp_path: Path, strategy: str, workers: int, tasks: int
) -> None:
    circumstances = Circumstances(
        examples=2_000_000, saves=Saves(10.0), failures=Failures(864_000.0), repeats=5
    )
    planned = best_plan([step(strategy, workers, 0.5)], circumstances).jobs[0]
    request = launch_request(
        planned, engine="slurm", program=["python", "train.py"], options={"partition": "main"}
    )
    name, _, script = request.dry_run.partition("\n")
    assert name == "# job.sbatch"
    (tmp_path / "job.sbatch").write_text(script.rpartition("\n\n")[0] + "\n")
    assert f"#SBATCH --ntasks={tasks}\n" in script
    # --test-only prints when and where the job would start, on standard error, and submits nothing.
    printed = slurm.complaint("sbatch", "--test-only", str(tmp_path / "job.sbatch"))
    assert "to start at" in printed


def test_slurm_refuses_what_the_cluster_does_not_have(slurm: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "job.sbatch").write_text("#!/bin/sh\n#SBATCH --ntasks=4000\ntrue\n")
    printed = slurm.complaint("sbatch", "--test-only", str(tmp_path / "job.sbatch"))
    assert "to start at" not in printed
