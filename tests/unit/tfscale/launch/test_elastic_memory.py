from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tfscale.launch.elastic.memory import Peaks, peak_of_processes


@pytest.mark.parametrize(
    ("measured", "num_workers", "bound"),
    [
        pytest.param({}, 2, None, id="nothing measured"),
        pytest.param({3: 900}, 3, None, id="as many have run"),
        pytest.param({2: 900, 4: 500}, 3, None, id="fewer have run"),
        pytest.param({3: 900}, 2, 1350, id="nothing taken to be fixed"),
        # 300 fixed and 1200 / n growing.
        pytest.param({4: 600, 3: 700}, 2, 900, id="the line through two"),
        pytest.param({6: 500, 4: 600, 3: 700}, 1, 1500, id="the two smallest of three"),
        pytest.param({4: 710, 3: 700}, 1, 700, id="not below what was measured"),
        pytest.param({4: 100, 3: 700}, 1, 2100, id="not above proportion"),
    ],
)
def test_the_bound_is_a_line_over_the_share(
    measured: dict[int, int], num_workers: int, bound: int | None
) -> None:
    peaks = Peaks()
    for workers, peak in measured.items():
        peaks.note(workers, peak - 1)
        peaks.note(workers, peak)
        peaks.note(workers, peak - 2)
    assert peaks.bound(num_workers) == bound


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_peak_includes_what_was_freed_and_processes_below() -> None:
    code = (
        "import subprocess, sys, threading\n"
        "held = bytearray(50_000_000); del held\n"
        "if sys.argv[1] == 'parent':\n"
        "    child = [sys.executable, '-S', '-c', sys.argv[2], 'child', '']\n"
        "    threading.Thread(target=subprocess.run, args=(child,)).start()\n"
        "else:\n"
        "    print('ready', flush=True); input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code, "parent", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    peak = peak_of_processes(process.pid)
    process.communicate(b"\n", timeout=120)
    assert peak is not None
    assert 100_000_000 < peak < 200_000_000
    assert peak_of_processes(process.pid) is None


def test_a_process_that_the_system_does_not_know_has_no_peak(tmp_path: Path) -> None:
    assert peak_of_processes(1, proc=tmp_path) is None
