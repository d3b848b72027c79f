"""Program: a child that takes turns as its name says, without TensorFlow.

python -m tests.unit.tfscale.bench.bench_programs ADDRESS NAME NUM_WORKERS THREADS RACE

The race's target is a file to which every turn adds the name, or one that waits its process id.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tfscale.bench.turns import Turns
from tfscale.bench.variant import Race


def main() -> int:
    address, name, _, _, text = sys.argv[1:]
    race = Race.from_json(text)
    if name in ("silent", "hangs"):
        Path(race.target).write_text(str(os.getpid()), "utf-8")
    if name == "dies":
        print("no such library")
        return 3
    with Turns(address, race.patience_seconds) as turns:
        if name == "silent":
            signal.pause()
        if name == "missing":
            turns.fail("missing", "no such library")
            return 0
        if name == "wrong":
            turns.fail("wrong", "`data` must be data.")
            return 2
        turns.ready(0.5)
        for _ in range(race.rounds):
            turns.start()
            if name == "stops":
                print("out of memory")
                return 4
            if name == "hangs":
                signal.pause()
            if name == "busy":
                started = time.process_time()
                while time.process_time() - started < 0.2:
                    pass
            if name == "waits":
                time.sleep(0.2)
            with Path(race.target).open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
            turns.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
