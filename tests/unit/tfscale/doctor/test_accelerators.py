from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.doctor.accelerators import accelerator_facts, examine_accelerators

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  515.65.01  Wed Jul 20 14:00:58 UTC 2022\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
    "GCC version:  gcc version 11.4.0\n"
)
LARGE = {"shared_memory_bytes": 1 << 40}


def planted(root: Path, driver: str = OPEN, *, gpus: int = 1, library: str = "") -> Path:
    folder = root / "proc/driver/nvidia"
    folder.mkdir(parents=True)
    (folder / "version").write_text(driver)
    (root / "dev").mkdir()
    for number in range(gpus):
        (folder / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
        (root / "dev" / f"nvidia{number}").touch()
    if library:
        (root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
        (root / "usr/lib/x86_64-linux-gnu" / f"libcuda.so.{library}").touch()
        (root / "usr/lib/x86_64-linux-gnu/libcuda.so.1").touch()
    return root


def test_a_host_without_accelerators_has_no_findings(tmp_path: Path) -> None:
    assert examine_accelerators(accelerator_facts(tmp_path), {}, {}, {"CPU": 1}) == []


def test_healthy_gpus_have_no_findings(tmp_path: Path) -> None:
    facts = accelerator_facts(planted(tmp_path, gpus=2, library="570.86.15"))
    assert (facts["gpus"], facts["driver"]) == (2, "570.86.15")
    versions = {"tensorflow": "2.21.0", "nvidia-cuda-runtime-cu12": "12.8.90"}
    assert examine_accelerators({**facts, **LARGE}, versions, {}, {"CPU": 1, "GPU": 2}) == []


@pytest.mark.parametrize(
    ("driver", "library", "runtime", "words"),
    [
        (CLOSED, "", "nvidia-cuda-runtime-cu12", "is 515.65.01, and CUDA 12.9 needs at least 525"),
        (OPEN, "", "nvidia-cuda-runtime-cu13", "is 570.86.15, and CUDA 12.9 needs at least 580"),
        (OPEN, "570.124.06", "", "in the kernel is 570.86.15, its library 570.124.06."),
    ],
)
def test_a_driver_that_does_not_fit_is_a_problem(
    driver: str, library: str, runtime: str, words: str, tmp_path: Path
) -> None:
    facts = accelerator_facts(planted(tmp_path, driver, library=library))
    (finding,) = examine_accelerators(facts, {runtime: "12.9"}, {}, {"GPU": 1})
    assert finding.is_problem
    assert words in finding.found


@pytest.mark.parametrize(
    ("versions", "cure"),
    [
        ({"tensorflow-cpu": "2.21.0"}, "This TensorFlow computes on CPUs only"),
        ({"tensorflow": "2.21.0"}, "Libraries of CUDA are missing"),
    ],
)
def test_gpus_that_tensorflow_does_not_see_are_a_problem(
    versions: dict[str, str], cure: str, tmp_path: Path
) -> None:
    facts = accelerator_facts(planted(tmp_path))
    (finding,) = examine_accelerators(facts, versions, {}, {"CPU": 1})
    assert finding.is_problem
    assert finding.found == "This host has 1 GPUs, and TensorFlow sees none."
    assert finding.cure.startswith(cure)
    # Hidden on purpose, or not asked.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    (finding,) = examine_accelerators(facts, versions, hidden, {"CPU": 1})
    assert not finding.is_problem
    assert examine_accelerators(facts, versions, {}, None) == []


def test_a_container_without_the_gpus_of_its_host_is_a_problem(tmp_path: Path) -> None:
    root = planted(tmp_path)
    (root / "dev/nvidia0").unlink()
    (finding,) = examine_accelerators(accelerator_facts(root), {}, {}, {"GPU": 1})
    assert "there is no /dev/nvidia0 here" in finding.found


@pytest.mark.parametrize(("gpus", "count"), [(1, 0), (2, 1)])
def test_little_shared_memory_is_a_problem_of_several_gpus(
    gpus: int, count: int, tmp_path: Path
) -> None:
    facts = {**accelerator_facts(planted(tmp_path, gpus=gpus)), "shared_memory_bytes": 64 << 20}
    findings = examine_accelerators(facts, {}, {}, {"GPU": gpus})
    assert ["/dev/shm has 67.1 MB" in each.found for each in findings] == [True] * count


def test_tpu_chips_without_their_library_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for number in range(4):
        (tmp_path / "dev" / f"accel{number}").touch()
    facts = accelerator_facts(tmp_path)
    (finding,) = examine_accelerators(facts, {"tensorflow-cpu": "2.21.0"}, {}, {"CPU": 1})
    assert "TPU chips (accel0, accel1, accel2, accel3)" in finding.found
    assert 'pip install "tfscale[tpu]"' in finding.cure
    assert examine_accelerators(facts, {"tensorflow-tpu": "2.20.0"}, {}, {"CPU": 1}) == []
