"""How long `tfscale report` takes for a million steps, and a browser to show its page.

    python -m tests.benchmarks.report_speed [--steps=1000000] [--folder=/tmp/million]

It writes a file of Monitor with a line a step (650 MB for a million) and a run.json with a curve of
as many values, runs the command, and opens the page in Chromium, if `make browser-test` installed
it. With --folder the files are kept, and used again.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.unit.tfscale.report import report_browser
from tests.unit.tfscale.report.made_up_monitor import Job
from tfscale.report.json import write_run
from tfscale.report.record import Curve, RunRecord

_PAINTED = "performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)"
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="default 1000000")
    parser.add_argument("--folder", type=Path, help="where the files are kept; default none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "run.json").exists():
            _write(folder, arguments.steps)
        page = Path(temporary) / "page.html"
        command = ["report", str(folder), f"--output={page}"]
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tfscale", *command], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / "monitor-0.jsonl").stat().st_size
        print(
            f"{arguments.steps:,} lines, {size / 1e6:,.0f} MB: {seconds:.1f} s, "
            f"{used.ru_utime + used.ru_stime:.1f} s of processors, "
            f"{used.ru_maxrss / 2**20:.2f} GiB; page of {page.stat().st_size / 1e3:,.0f} kB"
        )
        _open(page)


def _write(folder: Path, steps: int) -> None:
    draw = random.Random(0)
    job = Job(folder)
    job.start()
    losses = []
    for _ in range(steps):
        losses.append(draw.random())
        job.steps(
            1,
            compute=0.01 + 0.01 * draw.random(),
            input_wait=0.001 * draw.random(),
            communication=0.001 * draw.random(),
            callbacks=1e-4 * draw.random(),
            utilization=draw.random(),
            gradient_norm=draw.random(),
        )
    job.end()
    job.close()
    write_run(RunRecord("long", curves=[Curve("loss", {"training": losses})]), folder / "run.json")


def _open(page: Path) -> None:
    program = report_browser.find()
    if program is None:
        print("no browser: make browser-test installs one")
        return
    with report_browser.browser(program) as opened:
        for width in (390, 1280):
            opened.show(page, width=width)
            end = time.monotonic() + 60
            while not (painted := opened.evaluate(_PAINTED)):
                if time.monotonic() > end:
                    raise TimeoutError("the browser painted nothing for 60 s")
                opened.screenshot("h1")
            loaded = opened.evaluate(_LOADED)
            print(
                f"{width} px: first painted after {painted[0]:.0f} ms, loaded after {loaded:.0f} ms"
            )


if __name__ == "__main__":
    main()
