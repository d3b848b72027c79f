"""Energy beside Zeus, https://github.com/ml-energy/zeus: both read the same counters.

    pip install zeus

The processors' counters are a folder that is laid out as the kernel's, and the GPUs' are those of a
stand-in for NVIDIA's library, which both reach through nvidia-ml-py. No machine of this project has
either.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfscale.monitor.powercap import FOLDER

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(importlib.util.find_spec("zeus") is None, reason="needs: pip install zeus"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
LARGEST = 100_000_000
ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:2": "psys",
}
ROWS = [
    # The first package by 3 J and its memory by half a joule, of which 1 J are its cores'.
    {"0": 93_000_000, "0:0": 1_000_000, "0:1": 500_000, "1": 2_000_000, "2": 9_000_000},
    # The first package goes on 7 J to its end, and begins again.
    {"0": 4_000_000, "0:0": 1_000_000, "0:1": 500_000, "1": 2_500_000, "2": 12_000_000},
    {"0": 5_000_000, "0:0": 1_500_000, "0:1": 750_000, "1": 2_500_000, "2": 14_000_000},
]
GPUS = [(1_000_500, 40), (1_003_000, 1_040), (1_003_001, 9_040)]


def plant(root: Path) -> None:
    """Makes the folders and links of a kernel, with counters at 90 J, and at 0 J."""
    devices, links = root / "sys/devices/virtual/powercap/intel-rapl", root / FOLDER
    links.mkdir(parents=True)
    devices.mkdir(parents=True)
    (links / "intel-rapl").symlink_to(devices)
    for zone, name in ZONES.items():
        parent = devices if zone.count(":") == 1 else devices / zone.rpartition(":")[0]
        (parent / zone).mkdir()
        (links / zone).symlink_to(parent / zone)
        (links / zone / "name").write_text(f"{name}\n")
        (links / zone / "max_energy_range_uj").write_text(f"{LARGEST}\n")
        (links / zone / "energy_uj").write_text("90000000\n" if zone[-2:] == ":0" else "0\n")
    (links / "intel-rapl:0:0/energy_uj").write_text("0\n")
    rows = [
        {
            "microjoules": {f"intel-rapl:{zone}": reached for zone, reached in row.items()},
            "millijoules": gpus,
            "began_again": int(place == 1),
        }
        for place, (row, gpus) in enumerate(zip(ROWS, GPUS, strict=True))
    ]
    (root / "counters.json").write_text(json.dumps(rows))
    (root / "gpus").write_text("1000000 0\n")


def test_zeus_finds_the_same_joules_of_the_same_counters(tmp_path: Path) -> None:
    plant(tmp_path)
    library = tmp_path / "libnvidia-ml.so.1"
    source = HERE / "nvml_stand_in.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    ended = subprocess.run(
        [sys.executable, HERE / "zeus_beside_ours.py", tmp_path],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(tmp_path),
            "NVML_STAND_IN": str(tmp_path / "gpus"),
            "CUDA_VISIBLE_DEVICES": "1,0",
            "PYTHONPATH": str(REPOSITORY),
        },
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    # By hand: packages and memory of the processors, and the GPUs in the order of the process.
    by_hand = [(3 + 0.5 + 2, 0.04, 0.5), (11 + 0.5, 1.0, 2.5), (1 + 0.25, 8.0, 0.001)]
    for read, (processors, first, second) in zip(found, by_hand, strict=True):
        zeus, ours = read["zeus"], read["ours"]
        assert ours["processors"] == pytest.approx(processors)
        packages = zeus["packages"]["0"] + zeus["packages"]["1"]
        assert ours["processors"] == pytest.approx(packages + zeus["memory"]["0"])
        # "psys" is the whole platform, with the packages in it, so Monitor leaves it out.
        assert set(zeus["packages"]) == {"0", "1", "2"}
        assert [zeus["gpus"]["0"], zeus["gpus"]["1"]] == pytest.approx([first, second])
        assert ours["gpus"]["GPU-1"]["joules"] == pytest.approx(first)
        assert ours["gpus"]["GPU-0"]["joules"] == pytest.approx(second)
        assert ours["gpus"]["GPU-0"]["source"] == "nvml"
        assert ours["gpus"]["GPU-0"]["watts"] == 250
        assert ours["gpus"]["GPU-0"]["utilization"] == 0.4
