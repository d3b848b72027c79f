"""The program behind `make engines`.

python -m tests.engines
python -m tests.engines --only=slurm,ray

Installs what each engine needs, runs its tests in a process of their own, and ends with a table.
What cannot be installed or started is skipped; the reasons stand below the table.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engines.outcome import Outcome, outcome_of, table
from tests.programs import ROOT

ENGINES = {
    "kubernetes": "tests/engines/kubernetes",
    "mpi": "tests/engines/mpi",
    "elastic": "tests/faults/test_elastic.py",
    "slurm": "tests/engines/slurm",
    "ray": "tests/engines/ray",
}
"""The tests of each engine. Those of `local`, `tpu_vm` and the doctor are in `make test`."""
_INSTALL_SECONDS = 1800.0
_TEST_SECONDS = 3 * 3600.0
_STOP_SECONDS = 120.0


def installed(engine: str) -> str:
    """Runs the install.sh of an engine, if it has one; returns what went wrong."""
    script = ROOT / "tests" / "engines" / engine / "install.sh"
    if not script.exists():
        return ""
    name = script.relative_to(ROOT)
    try:
        done = subprocess.run(
            ["sh", str(script)], stdin=subprocess.DEVNULL, timeout=_INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{name} took longer than {_INSTALL_SECONDS:g} s"
    return f"{name} ended with status {done.returncode}" if done.returncode else ""


def tested(engine: str, path: str) -> Outcome:
    """Runs the tests of an engine."""
    began = time.monotonic()
    trouble = installed(engine)
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        record = Path(folder) / "tests.xml"
        # A case may take many minutes on a busy machine.
        patience = ("-o", "faulthandler_timeout=1200")
        command = ("-m", "pytest", "-q", "-m", "engines", *patience, f"--junitxml={record}", path)
        print(f"engines: {engine}: python {' '.join(command)}", flush=True)
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL)
        status: int | None
        try:
            status = process.wait(_TEST_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # fixtures end what they started
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        return outcome_of(engine, record, status, time.monotonic() - began, trouble)


def main(paths: dict[str, str] | None = None) -> int:
    """Returns 0 if no test failed, 1 if one did or the tests of an engine did not end."""
    known = ENGINES if paths is None else paths
    parser = argparse.ArgumentParser(prog="python -m tests.engines")
    parser.add_argument("--only", default=",".join(known), help="engines (default: all)")
    names = parser.parse_args().only.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"`--only` must be some of {', '.join(known)}. Received: {unknown[0]!r}.")
    outcomes = [tested(name, known[name]) for name in names]
    print(f"\n{table(outcomes)}", flush=True)
    return int(any(outcome.is_failure for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
