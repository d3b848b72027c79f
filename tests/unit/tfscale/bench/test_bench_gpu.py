"""`make bench-gpu`: refused without a GPU; its programs on logical CPUs. Not run on a GPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.gpu import engines, memory_variants, step_variants
from tests.programs import ROOT, completed

GPU = ("-m", "tests.benchmarks.gpu")


def test_without_a_gpu_it_is_refused_with_the_cure(tmp_path: Path) -> None:
    done = completed(*GPU, f"--folder={tmp_path / 'a'}", timeout=120, CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must have a GPU that TensorFlow can use. Received: no GPU. Check " in done.stderr
    assert not (tmp_path / "a").exists()


def test_make_refuses_before_it_installs_anything(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), "bench-gpu"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert "`make bench-gpu` must run on a machine with an NVIDIA GPU." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_gpu_has_no_other_workers() -> None:
    for variants in (step_variants(1), memory_variants(1)):
        assert all(variant.num_workers == 0 for variant in variants)
    assert [v.num_workers for v in step_variants(4) if v.num_workers] == [4]
    assert [engine.num_workers for engine in engines(4)] == [0, 0, 4]


@pytest.mark.thorough
def test_the_same_programs_run_on_logical_cpus(tmp_path: Path) -> None:
    flags = ("--stand_in", "--rounds=2", f"--folder={tmp_path}")
    done = completed(*GPU, *flags, timeout=600, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-4000:]
    names = ("step_mlp", "step_transformer", "all_reduce", "memory")
    outcomes = {name: json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in names}
    for name, outcome in outcomes.items():
        assert (tmp_path / f"{name}.html").exists()
        for row in outcome["rows"]:
            # PyTorch is not there, or it is and finds no GPU.
            assert bool(row["skipped"]) == row["name"].startswith("torch_")
