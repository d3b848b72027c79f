"""GPUs, their driver and NCCL, and TPUs: what the system has and what TensorFlow sees.

Read from files of the kernel and metadata of wheels, so a broken driver is seen without CUDA.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfscale.doctor.finding import Finding, problem, remark
from tfscale.files.control_groups import text_of
from tfscale.files.room import megabytes

OLDEST_DRIVERS = {12: (525, 60, 13), 13: (580, 65, 6)}
"""By major version of CUDA, on Linux.

Source: NVIDIA, "CUDA Compatibility", minor version compatibility, table 1.
"""
LEAST_SHARED_MEMORY = 10**9
"""Bytes of /dev/shm with several GPUs. NCCL keeps its buffers there; containers have 64 MB."""

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_HIDING = ("", "-1", "NoDevFiles", "none", "void")


def accelerator_facts(root: Path = Path("/")) -> dict[str, Any]:
    """Returns what accelerators the system has, as JSON values.

    Args:
        root: Folder with `dev`, `proc` and `usr`.
    """
    driver = text_of(root / "proc/driver/nvidia/version")
    found = re.search(r"(?:Kernel Module|x86_64|aarch64)\s+(?:for \S+\s+)?(\d+\.\d[\d.]*)", driver)
    shared_memory = root / "dev/shm"
    return {
        "gpus": len(list(root.glob("proc/driver/nvidia/gpus/*"))),
        "gpu_files": sorted(p.name for p in root.glob("dev/nvidia[0-9]*")),
        "driver": found[1] if found else None,
        "driver_libraries": _driver_libraries(root),
        "tpu_files": sorted(
            p.name for p in (*root.glob("dev/accel*"), *root.glob("dev/vfio/[0-9]*"))
        ),
        "shared_memory_bytes": _size_of(shared_memory),
    }


def examine_accelerators(
    facts: Mapping[str, Any],
    versions: Mapping[str, str],
    environ: Mapping[str, str],
    devices: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Judges the accelerators.

    Args:
        facts: See `accelerator_facts`.
        versions: Installed distributions by name; see `wheels.installed_versions`.
        environ: The environment.
        devices: What TensorFlow sees: the number of devices of each kind. None if it was not asked.
    """
    return [
        *_of_driver(facts, versions),
        *_of_gpus(facts, versions, environ, devices),
        *_of_tpus(facts, versions, devices),
    ]


def _of_driver(facts: Mapping[str, Any], versions: Mapping[str, str]) -> Iterator[Finding]:
    driver, libraries = facts["driver"], facts["driver_libraries"]
    if driver is None:
        return
    if libraries and driver not in libraries:
        yield problem(
            "accelerators",
            f"The NVIDIA driver in the kernel is {driver}, its library {' and '.join(libraries)}.",
            "Restart the host, or reload the kernel module nvidia, after an update of the driver.",
        )
    for major, oldest in OLDEST_DRIVERS.items():
        runtime = versions.get(f"nvidia-cuda-runtime-cu{major}") or (
            versions.get("nvidia-cuda-runtime") if _of(versions) == major else None
        )
        if runtime is not None and _numbers(driver) < oldest:
            yield problem(
                "accelerators",
                f"The NVIDIA driver is {driver}, and CUDA {runtime} needs at least "
                f"{'.'.join(map(str, oldest))}.",
                "Update the driver on the host (not in the container).",
            )


def _of_gpus(
    facts: Mapping[str, Any],
    versions: Mapping[str, str],
    environ: Mapping[str, str],
    devices: Mapping[str, int] | None,
) -> Iterator[Finding]:
    count = facts["gpus"] or len(facts["gpu_files"])
    hidden = environ.get("CUDA_VISIBLE_DEVICES", "all") in _HIDING
    if not count:
        return
    if hidden:
        yield remark(
            "accelerators",
            f"This host has {count} GPUs, hidden by CUDA_VISIBLE_DEVICES="
            f"{environ['CUDA_VISIBLE_DEVICES']!r}.",
            "Unset it to use them.",
        )
    elif devices is not None and not devices.get("GPU"):
        yield problem(
            "accelerators",
            f"This host has {count} GPUs, and TensorFlow sees none.",
            "This TensorFlow computes on CPUs only: " + _INSTALL
            if "tensorflow-cpu" in versions
            else "Libraries of CUDA are missing or were not found: " + _INSTALL,
        )
    if facts["gpus"] and not facts["gpu_files"]:
        yield problem(
            "accelerators",
            f"The driver knows {facts['gpus']} GPUs, but there is no /dev/nvidia0 here.",
            "Start the container with the GPUs: --gpus=all in Docker, nvidia.com/gpu in "
            "Kubernetes, --gres=gpu in Slurm.",
        )
    memory = facts["shared_memory_bytes"]
    if count > 1 and not hidden and memory is not None and memory < LEAST_SHARED_MEMORY:
        yield problem(
            "accelerators",
            f"/dev/shm has {megabytes(memory)}, and NCCL keeps the buffers of {count} GPUs there.",
            "Enlarge it: --shm-size=1g in Docker, a volume emptyDir with medium: Memory in "
            "Kubernetes.",
        )


def _of_tpus(
    facts: Mapping[str, Any], versions: Mapping[str, str], devices: Mapping[str, int] | None
) -> Iterator[Finding]:
    if facts["tpu_files"] and "libtpu" not in versions and "tensorflow-tpu" not in versions:
        yield problem(
            "accelerators",
            f"This host has TPU chips ({', '.join(facts['tpu_files'][:4])}), and neither "
            "tensorflow-tpu nor libtpu is installed.",
            'Uninstall other TensorFlows, then run pip install "tfscale[tpu]".',
        )


_INSTALL = 'uninstall it, then run pip install "tfscale[gpu]".'


def _driver_libraries(root: Path) -> list[str]:
    folders = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")
    names = {
        path.name.removeprefix("libcuda.so.")
        for folder in folders
        for path in root.glob(f"{folder}/libcuda.so.[0-9]*.*")
    }
    return sorted(names)


def _size_of(folder: Path) -> int | None:
    try:
        room = os.statvfs(folder)
    except (OSError, AttributeError):  # no such folder, or no such call
        return None
    return room.f_blocks * room.f_frsize


def _of(versions: Mapping[str, str]) -> int:
    return _numbers(versions.get("nvidia-cuda-runtime", "0.0"))[0]


def _numbers(version: str) -> tuple[int, int, int]:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
