"""Monitor's meters and Zeus read the same counters; prints the joules that both have found.

    python zeus_beside_ours.py FOLDER

FOLDER has `sys/class/powercap`, and the file of `nvml_stand_in.c`. A process of its own, because
Zeus keeps what it has found of a host.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tfscale.monitor.gpus import Gpus
from tfscale.monitor.powercap import FOLDER, Powercap

_SECONDS = 60.0


def write(root: Path, microjoules: dict[str, int], millijoules: tuple[int, int]) -> None:
    """Writes what the counters of all zones and of both GPUs have reached."""
    for zone, reached in microjoules.items():
        (root / FOLDER / zone / "energy_uj").write_text(f"{reached}\n")
    Path(os.environ["NVML_STAND_IN"]).write_text("{} {}\n".format(*millijoules))


def has_seen(tracker: Any, count: int, seconds: float) -> bool:
    """Waits until Zeus has seen that a counter began again; it looks once a second."""
    ends = time.monotonic() + seconds
    while tracker.get_num_wraparounds() < count:
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def await_tracker(tracker: Any, counter: Path) -> None:
    """Waits until the process reads with which Zeus looks whether a counter began again."""
    planted, ends = counter.read_text(), time.monotonic() + _SECONDS
    while True:
        counter.write_text("1\n")
        if has_seen(tracker, 1, 4.0):
            break
        assert time.monotonic() < ends, "Zeus's process does not read the counter"
        counter.write_text(planted)
        time.sleep(2)
    counter.write_text(planted)


def main(root: Path) -> None:
    from zeus.device.cpu import get_cpus, rapl
    from zeus.monitor import ZeusMonitor

    rapl.RAPL_DIR = str(root / FOLDER / "intel-rapl")
    visible = os.environ["CUDA_VISIBLE_DEVICES"]
    zeus = ZeusMonitor()
    tracker = get_cpus().cpus[0].rapl_file.wraparound_tracker
    await_tracker(tracker, root / FOLDER / "intel-rapl:0/energy_uj")
    processors, gpus = Powercap(root), Gpus([0, 1], visible)
    found = []
    began_again = tracker.get_num_wraparounds()
    for row in json.loads((root / "counters.json").read_text("utf-8")):
        zeus.begin_window("step", sync_execution=False)
        write(root, row["microjoules"], row["millijoules"])
        began_again += row["began_again"]
        assert has_seen(tracker, began_again, _SECONDS), "Zeus did not see a counter begin again"
        taken = zeus.end_window("step", sync_execution=False)
        found.append(
            {
                "zeus": {
                    "packages": taken.cpu_energy,
                    "memory": taken.dram_energy,
                    "gpus": taken.gpu_energy,
                },
                "ours": {"processors": processors.joules(), "gpus": gpus.read()},
            }
        )
    print(json.dumps(found))


if __name__ == "__main__":  # Zeus starts processes that import this module
    main(Path(sys.argv[1]))
