"""Starts a training repeatedly, each time in new processes that are really killed.

    python -m tests.faults.chain PLAN

PLAN contains the JSON of a `Training` on each line. They run one after another. In one with an
interruption, all workers are killed as soon as one is. Each attempt is a fork of this process. That
saves the seconds of an import: this process has imported TensorFlow, but not used it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from strategies.cluster.cluster import Cluster
from tests.faults import program
from tests.faults.training import WORKERS, Training
from tfscale.launch.ports import reserve_port

ATTEMPT_SECONDS = 300.0
EPOCH_SECONDS = 3.0
"""Additional time per epoch, on a busy machine."""
POLL_SECONDS = 0.02


def main(plan: Path) -> int:
    """Returns 0 if every attempt ended as its plan says."""
    for line in plan.read_text("utf-8").splitlines():
        training = Training.from_json(line)
        ended = run(training)
        expected = "killed" if training.interruption else "finished"
        where = f"{training.kind} attempt {training.attempt} {training.interruption}".strip()
        if ended != expected:
            print(f"chain: {where}: {ended}, not {expected}", flush=True)
            return 1
        print(f"chain: {where}: {ended}", flush=True)
    return 0


def run(training: Training) -> str:
    """Runs one attempt; returns "finished", "killed", "failed" or "hung"."""
    Path(training.folder).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(reserve_port()) for _ in range(training.num_workers)]
        addresses = tuple(port.address for port in ports)
        for port in ports:
            port.release()
        workers = {_forked(training, worker, addresses) for worker in range(len(ports))}
        return _ended(workers, ATTEMPT_SECONDS + EPOCH_SECONDS * training.epochs)


def _forked(training: Training, worker: int, addresses: tuple[str, ...]) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        log = os.open(training.note("log", worker), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if training.kind == WORKERS:
            cluster = Cluster({"worker": addresses}, "worker", worker)
            os.environ["TF_CONFIG"] = cluster.to_tf_config()
        program.main(training)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended(workers: set[int], seconds: float) -> str:
    ends: set[int] = set()
    result = ""
    deadline = time.monotonic() + seconds
    while workers:
        for process in list(workers):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                workers.discard(process)
                ends.add(os.waitstatus_to_exitcode(status))
        failed = bool(ends - {0})
        if not result and (failed or time.monotonic() > deadline):
            killed = -signal.SIGKILL in ends
            result = "killed" if killed else "failed" if failed else "hung"
            for process in workers:
                os.kill(process, signal.SIGKILL)
        if workers:
            time.sleep(POLL_SECONDS)
    return result or "finished"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
