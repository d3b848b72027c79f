"""Jobs on a simulated store, one operation at a time, in an order that a seed draws."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator

from tfscale.checkpoints.lease_files import LeaseFiles
from tfscale.checkpoints.lease_holder import Holder
from tfscale.checkpoints.lease_protocol import Claimant, FolderTaken, Periods, Steps, TakenOver

PERIODS = Periods(renew=1.0, stale=4.0, settle=0.5, poll=0.3)


class Store:
    """What is there at which time.

    Attributes:
        time: The time now, in seconds.
        contents: What was written, by name.
        since: When a name came, or went, with whether it came.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.contents: dict[str, bytes] = {}
        self.since: dict[str, tuple[bool, float]] = {}


class View:
    """The leases as one host sees them: read at once, listed after at most `lag` seconds."""

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, store: Store, draw: random.Random, lag: float) -> None:
        self._store = store
        self._lags: dict[tuple[str, bool], float] = {}
        self._draw = draw
        self._lag = lag

    def names(self) -> list[str]:
        found = []
        for name, (is_there, since) in self._store.since.items():
            lag = self._lags.setdefault((name, is_there), self._draw.uniform(0, self._lag))
            if is_there == (since + lag <= self._store.time):
                found.append(name)
        return sorted(found)

    def read(self, name: str) -> bytes | None:
        return self._store.contents.get(name)

    def write(self, name: str, content: bytes) -> None:
        if name not in self._store.contents:
            self._store.since[name] = (True, self._store.time)
        self._store.contents[name] = content

    def remove(self, name: str) -> None:
        if self._store.contents.pop(name, None) is not None:
            self._store.since[name] = (False, self._store.time)


class Job:
    """One job: it arrives, holds the folder for a while, and leaves."""

    def __init__(
        self, number: int, store: Store, files: View, begin: float, hold: float, rate: float
    ) -> None:
        self.store = store
        self.wakes = begin
        self.holds = False
        self.has_held = False
        self.was_refused = False
        self.is_over = False
        self.waited = 0.0
        self._rate = rate
        holder = Holder(f"host {number}", number, "today", f"boot {number}", str(number))
        self.claimant = Claimant("gs://b/a", files, holder, PERIODS, self.clock)
        self._hold = hold
        self._steps = self._run()

    def clock(self) -> float:
        """This host's clock; it runs a little faster or slower than others."""
        return self.store.time * self._rate + 1e6 * self._rate

    def believes(self) -> bool:
        """Whether this job would write to the folder now without asking."""
        is_trusted = self.clock() < self.claimant.trusted_until
        return self.holds and not self.claimant.is_lost and is_trusted

    def step(self) -> None:
        try:
            self.wakes = self.store.time + next(self._steps) / self._rate
        except StopIteration:
            self.is_over = True

    def crash(self) -> None:
        self.holds = False
        self.is_over = True

    def _run(self) -> Steps:
        begin = self.store.time
        try:
            yield from self.claimant.acquire()
        except FolderTaken:
            self.was_refused = True
            return
        self.waited = self.store.time - begin
        self.holds = self.has_held = True
        end = self.store.time + self._hold
        try:
            while self.store.time < end:
                yield PERIODS.renew
                yield from self.claimant.renew()
        except TakenOver:
            self.holds = False
            return
        self.holds = False
        yield from self.claimant.release()


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """How often a step is followed by a stop or an end of its job.

    Attributes:
        pause: Probability of a stop, of 10 ms up to 4 times `PERIODS.stale`.
        crash: Probability of the job's end.
    """

    pause: float = 0.0
    crash: float = 0.0

    def pause_seconds(self, draw: random.Random) -> float:
        """Draws the length of a stop, long and short ones alike, or 0."""
        if draw.random() >= self.pause:
            return 0.0
        return float(0.01 * (400 * PERIODS.stale) ** draw.random())


def simulate(
    jobs: list[Job],
    store: Store,
    draw: random.Random,
    disturbance: Disturbance,
    look: Callable[[list[Job]], None],
) -> None:
    """Runs all jobs to their ends; `look` is called after every step and before every wait."""
    while alive := [job for job in jobs if not job.is_over]:
        ready = [job for job in alive if job.wakes <= store.time]
        if not ready:
            store.time = min(job.wakes for job in alive)
            look(jobs)
            continue
        job = draw.choice(ready)
        job.step()
        store.time += draw.choice([0.0, 0.0, draw.uniform(0, 0.02)])
        if pause := disturbance.pause_seconds(draw):
            job.wakes = max(job.wakes, store.time + pause)
        if draw.random() < disturbance.crash:
            job.crash()
        look(jobs)


def jobs_of(
    store: Store, draw: random.Random, lag: float, arrivals: list[float], holds: list[float]
) -> Iterator[Job]:
    """Yields a job for each arrival, the clock of each with a pace of its own."""
    for number, (begin, hold) in enumerate(zip(arrivals, holds, strict=True)):
        yield Job(number, store, View(store, draw, lag), begin, hold, rate=1 + 0.001 * number)


_: type[LeaseFiles] = View
