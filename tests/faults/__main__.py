"""The program behind `make faults`.

python -m tests.faults
python -m tests.faults --only=kill,cable
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults import cost, latency, resume, table
from tests.faults.catalogue import chosen
from tests.faults.fault import Fault, Report
from tests.faults.resume import Chain
from tests.faults.scene import Scene
from tests.faults.traces import end_all
from tests.faults.training import WORKERS, Training
from tests.faults.versions import versions
from tests.programs import ROOT
from tests.tables import write

TABLE = ROOT / "docs" / "concepts" / "faults.md"


class Session:
    """Runs cases, each in a separate folder.

    Args:
        folder: For all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = time.monotonic()
        self._control_lock = threading.Lock()
        self._control: Training | None = None
        self.failed: list[str] = []

    def say(self, line: str) -> None:
        """Prints a line of progress."""
        print(f"[{time.monotonic() - self._started:4.0f} s] {line}", flush=True)

    def resumed(self, chain: Chain) -> str:
        """Runs a chain, and returns its line."""
        resumed = resume.run(chain, self._place(chain.name))
        self._note(chain.name, resumed.trouble)
        return resumed.line

    def measured(self, kind: str) -> str:
        """Measures what op determinism costs, and returns its line."""
        line = cost.line(kind, self._place(f"cost {kind}"))
        self.say(f"{cost.NAME}: {line}")
        return line

    def timed(self, kind: str) -> str:
        """Measures a restart part by part, and returns its line."""
        place = self._place(f"{latency.NAME} {list(latency.KINDS).index(kind)}")
        try:
            line = latency.line(kind, place)
        except (TimeoutError, ValueError) as error:
            why = str(error).partition("\n")[0]
            self._note(latency.NAME, [f"{kind}: {why}"])
            return f"| {kind} | {table.FAILED}{why} |"
        self.say(f"{latency.NAME}: {line}")
        return line

    def run(self, fault: Fault) -> str:
        """Runs a fault, and returns its line."""
        missing = fault.missing()
        if missing:
            self.say(f"{fault.name}: SKIPPED, {missing}")
            return table.skipped_line(fault, missing)
        try:
            report = fault.run(Scene(self._place(fault.name), self._undisturbed()))
        except (OSError, TimeoutError) as error:
            report = Report(trouble=(f"{type(error).__name__}: {error}",))
        self._note(fault.name, report.trouble)
        return table.fault_line(fault, report)

    def _note(self, name: str, trouble: tuple[str, ...] | list[str]) -> None:
        self.say(f"{name}: {'; '.join(trouble) or 'passed'}")
        if trouble:
            self.failed.append(name)

    def _place(self, name: str) -> Path:
        folder = self._folder / name.replace(" ", "-").replace("%", "percent")
        folder.mkdir()
        return folder

    def _undisturbed(self) -> Training:
        with self._control_lock:
            if self._control is None:
                folder = self._place("undisturbed")
                training = Training(WORKERS, str(folder))
                resume.train([training], folder)
                self._control = training
        return self._control


def main() -> int:
    """Returns 0 if every case passed or was skipped, 1 if one failed, 2 for a wrong flag."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", default="", help="words of names of cases, such as kill,cable")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at a time")
    parser.add_argument("--table", type=Path, default=TABLE, help="document that is written")
    arguments = parser.parse_args()
    try:
        cases = chosen(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        session = Session(Path(folder))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
            try:
                fault_lines = list(pool.map(session.run, cases.faults))
                resume_lines = list(pool.map(session.resumed, cases.chains))
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                end_all(folder)  # so that running cases end now, and clean up
                raise
        # One at a time, because times are measured.
        latency_lines = [session.timed(kind) for kind in cases.latencies]
        cost_lines = [session.measured(kind) for kind in cases.costs]
    tables = {
        table.FAULTS: fault_lines,
        table.LATENCY: latency_lines,
        table.RESUME: resume_lines,
        table.COST: cost_lines,
    }
    print("\n".join(itertools.chain(*tables.values())))
    text = TABLE.read_text("utf-8")
    for name, lines in tables.items():
        if lines:
            text = table.updated(text, name, versions(), lines, is_whole=not arguments.only)
    write(arguments.table, text)
    print(
        f"faults: {sum(map(len, tables.values()))} cases; "
        f"failed: {', '.join(session.failed) or 'none'}"
    )
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
