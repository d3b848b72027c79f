"""The peers of `tfscale bench`, in their own environment. Without it, these tests are skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, completed
from tfscale.bench.models import MODELS
from tfscale.bench.peers.environment import (
    VARIABLE,
    module_command,
    mpi_command,
    peer_python,
    peer_versions,
    reason_missing,
)
from tfscale.bench.variant import VARIANTS

COUNT_PARAMETERS = """
import json
from tfscale.bench.peers.torch_models import TORCH_MODELS
print(json.dumps({
    name: sum(part.numel() for part in model.module().parameters())
    for name, model in TORCH_MODELS.items()
}))
"""

needs_torch = pytest.mark.skipif(bool(reason_missing("torch")), reason=reason_missing("torch"))


def test_a_peer_without_an_environment_is_missing_and_the_reason_has_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    assert reason_missing("torch") == "torch has no environment; `make peers` makes it"
    assert peer_versions() == {}


def test_an_environment_without_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    monkeypatch.setenv(VARIABLE, str(environment / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    expected = "mpi4py is not installed in environment; `make peers` installs it"
    assert reason_missing("mpi4py") == expected


def test_an_environment_in_the_current_folder_is_preferred(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert peer_python() == ROOT / ".venv-peers" / "bin" / "python"
    python = tmp_path / ".venv-peers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert peer_python() == python


def test_ranks_of_mpi_are_started_by_the_mpiexec_of_the_same_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "/peers/bin/python")
    assert mpi_command(3, "program", ["a"]) == [
        "/peers/bin/mpiexec",
        "-n",
        "3",
        *module_command("program", ["a"]),
    ]


def test_what_the_programs_of_peers_share_with_tfscale_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import tfscale.bench.collectives.reduction, tfscale.bench.models, tfscale.bench.turns\n"
        "import tfscale.bench.variant\n"
        "print({'numpy', 'keras', 'tensorflow', 'strategies.extension'} & set(sys.modules))"
    )
    assert completed("-c", code, timeout=60).stdout == "set()\n"


def test_two_workers_are_compared_with_torch_ddp_of_as_many_processes() -> None:
    by_name = {variant.name: variant for variant in VARIANTS}
    workers, peer = by_name["workers"], by_name["torch_ddp"]
    assert (workers.peer, workers.goal) == ("torch_ddp", 1.3)
    assert (peer.requires, peer.num_workers) == ("torch", workers.num_workers)


@needs_torch
def test_models_have_the_parameters_of_their_counterparts_in_keras() -> None:
    counted = subprocess.run(
        [peer_python(), "-c", COUNT_PARAMETERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(counted.stdout)
    assert sorted(found) == ["mlp", "tiny_mlp", "transformer"]
    assert found == {name: MODELS[name].compiled().count_params() for name in found}


@needs_torch
def test_a_race_with_torch_has_its_rows_and_its_version() -> None:
    flags = ("--model=tiny_mlp", "--variants=torch,torch_ddp", "--threads=2", "--json")
    done = completed(
        "-m", "tfscale", "bench", "step", "--rounds=2", "--steps=4", *flags, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    single, pair = json.loads(done.stdout)["rows"]
    assert [row["facts"]["threads"] for row in (single, pair)] == ["2", "2 x 1"]
    assert min(single["value"]["median"], pair["value"]["median"]) > 0
    assert (single["skipped"], pair["skipped"]) == ("", "")


def test_a_race_without_torch_says_so_in_its_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    flags = ("--model=tiny_mlp", "--variants=torch,loop", "--json")
    done = completed(
        "-m", "tfscale", "bench", "step", "--rounds=2", "--steps=4", *flags, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    torch, loop = json.loads(done.stdout)["rows"]
    assert torch["skipped"] == "torch has no environment; `make peers` makes it"
    assert (torch["value"], loop["skipped"]) == (None, "")
