"""Program: a trial with a closed form, without TensorFlow.

    python sweep_program.py --x=0.5 --by=b [--end=END] [--in=TRIAL]

Reports (x - 0.3)^2 + 1 / step, and 1 more for --by=b, at the steps 1 to 5. END is what the program
does: "hang" ignores SIGTERM and waits in trials from the sixth on, after its first report; "wait"
waits in TRIAL after the second report, until the folder of the sweep has a file "go".
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 5


def value_at(step: int, x: float, by: str) -> float:
    """The value that is reported at a step."""
    return (x - 0.3) ** 2 + 1 / step + (by == "b")


def main(flags: dict[str, str]) -> None:
    """Reports, and ends as it is asked to."""
    file = Path(os.environ["TFSCALE_TRIAL"])
    end = flags.get("end", "")
    (file.parent / "pid").write_text(str(os.getpid()))
    print("some output")
    if end == "fail" and float(flags["x"]) > 0.55:
        sys.exit("x is too large for this program")
    for step in range(1, STEPS + 1):
        value = value_at(step, float(flags["x"]), flags["by"])
        with file.open("a") as reports:
            reports.write(json.dumps({"step": step, "loss": value}) + "\n")
        if end == "hang" and int(file.parent.name.removeprefix("trial-")) >= 5:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with file.open("a") as reports:
                reports.write(json.dumps({"step": step + 1, "loss": 1e6}) + "\n")
            time.sleep(600)
        if end == "wait" and step == 2 and file.parent.name == flags["in"]:
            while not (file.parents[1] / "go").exists():
                time.sleep(0.01)


if __name__ == "__main__":
    main(dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:]))
