"""Leases of simulated jobs of other hosts, in this process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strategies.cluster.environments import JobStart
from tfscale.checkpoints.lease import Lease
from tfscale.checkpoints.lease_files import lease_files_at
from tfscale.checkpoints.lease_holder import Holder
from tfscale.checkpoints.lease_protocol import Periods

QUICK = Periods(renew=0.05, stale=0.5, poll=0.02)
LIVING = Periods(renew=0.05, stale=60.0, poll=0.02)
"""For leases that are alive: a busy machine may let no thread run for seconds."""


def elsewhere(host: str = "another", *jobs: JobStart) -> Holder:
    """A process of another host, of which this one cannot tell whether it lives."""
    return Holder(host, 7, "today", f"boot of {host}", "1", jobs)


def lease_of(place: Path | str, holder: Holder, periods: Periods = QUICK) -> Lease:
    return Lease(str(place), lease_files_at(str(place)), holder, periods)


@contextlib.contextmanager
def held(place: Path | str, holder: Holder, periods: Periods = QUICK) -> Iterator[Lease]:
    lease = lease_of(place, holder, periods)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


def leases_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(".lease-*"))]
