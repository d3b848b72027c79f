"""The protocol by which at most one job holds a checkpoint folder.

It only needs a file system that can write, read, list and remove files. Every job writes its own
lease file, and then lists all lease files. Of two jobs, the one that lists later sees the other's
file. So a job holds the folder if, after writing its own lease, it sees no other lease that may be
alive. While no job holds the folder, the order of the names decides which job gives way.

A lease is alive as long as it changes: its job writes a new count at intervals. A lease that
another job has seen unchanged for `stale` seconds, by that job's clock, may be replaced. To replace
it, a job first records this in its own lease, and then lists again. A job that was only slow writes
its count, and then looks for such a record. One of the two sees the other and gives way. The record
of replaced leases is kept, so that a job that resumes after hours finds it and knows that it has
lost the folder.

Clocks of different hosts are never compared, only elapsed times: without a renewal, a job trusts
its own lease for half of `stale`.

All steps are generators that yield before each operation, so that a test can run several jobs in
any order. They yield the seconds to wait.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from tfscale.checkpoints.lease_files import PREFIX, SUFFIX, LeaseFiles
from tfscale.checkpoints.lease_holder import Holder, Verdict

CLAIMING, HOLDING, RELEASED = "claiming", "holding", "released"
_FORMAT = "tfscale lease"
_MOST_REPLACED = 100
_MOST_ATTEMPTS = 20

Steps = Generator[float, None, None]
Look = Generator[float, None, bool]


class FolderTaken(ValueError):
    """Another job saves to the folder."""


class TakenOver(RuntimeError):
    """Another job has taken over the folder, so this job must not write to it any more."""


@dataclass(frozen=True)
class Periods:
    """Intervals and timeouts of the protocol, in seconds.

    Attributes:
        renew: Interval between renewals. Positive.
        stale: Time without a change after which a lease may be replaced. At least 3 times `renew`.
        settle: Time until a write appears in all listings. At least 0.
        poll: Interval between listings while waiting. Positive.
    """

    renew: float = 10.0
    stale: float = 60.0
    settle: float = 0.0
    poll: float = 0.2

    @property
    def trust(self) -> float:
        """Time for which a job trusts its own lease without a renewal."""
        return self.stale / 2


@dataclass(frozen=True)
class Claim:
    """The content of a lease file.

    Attributes:
        state: `CLAIMING`, `HOLDING`, or `RELEASED`, which only keeps the record of `replaced`.
        count: Incremented by every write.
        replaced: Names of the leases that this one has replaced or will replace.
        holder: The job's process.
    """

    state: str
    count: int
    replaced: tuple[str, ...]
    holder: Holder

    def to_bytes(self) -> bytes:
        """Returns the content of the file."""
        values = {**vars(self), "holder": self.holder.to_json(), "format": _FORMAT, "version": 1}
        return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Claim | None:
        """Returns the claim, or None if the content is invalid, as after a power failure."""
        try:
            values = json.loads(content)
            if values["format"] != _FORMAT or values["version"] != 1:
                return None
            replaced = tuple(map(str, values["replaced"]))
            holder = Holder.from_json(values["holder"])
            return cls(str(values["state"]), int(values["count"]), replaced, holder)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None


@dataclass
class Seen:
    """The lease of another job, as it was read.

    Attributes:
        claim: Its content, or None if invalid.
        unchanged: Seconds for which it has been unchanged.
        has_changed: Whether it has changed since it was first read.
    """

    content: bytes
    claim: Claim | None
    since: float
    unchanged: float = 0.0
    has_changed: bool = False


@dataclass
class Claimant:
    """One job in the protocol.

    Args:
        place: The folder, for messages.
        files: The lease files of the folder.
        holder: This job.
        periods: Intervals and timeouts.
        now: A monotonic clock, in seconds.

    Attributes:
        name: The name of this job's lease file.
        is_lost: Why the job has lost the folder; empty while it holds it.
        trusted_until: Until when the job trusts its lease, on the clock of `now`.
    """

    place: str
    files: LeaseFiles
    holder: Holder
    periods: Periods
    now: Callable[[], float]
    name: str = ""
    is_lost: str = ""
    trusted_until: float = 0.0
    _state: str = CLAIMING
    _count: int = 0
    _written: float = 0.0
    _replaced: list[str] = field(default_factory=list)
    _records: list[str] = field(default_factory=list)
    _seen: dict[str, Seen] = field(default_factory=dict)

    def acquire(self) -> Steps:
        """Acquires the folder.

        Raises:
            FolderTaken: If another job holds it, or takes precedence.
        """
        begin, unlisted, attempts = self.now(), 0, 0
        self._seen = {}
        yield from self._begin_claim()
        while True:
            is_listed = yield from self._look()
            if self._is_replaced_by() or self._is_old() or not (yield from self._is_there()):
                attempts += 1
                if attempts > _MOST_ATTEMPTS:
                    raise OSError(f"{self.place} is too slow for jobs to agree on its holder")
                yield from self._begin_claim()  # as if this job had just arrived
                continue
            is_late = self.now() - begin > 3 * self.periods.stale
            unlisted = 0 if is_listed else unlisted + 1
            if unlisted * self.periods.poll > self.periods.stale:
                raise OSError(f"{self.place} does not list files that were written long ago")
            if unlisted:
                yield self.periods.poll
                continue
            dead, waits = self._dead_and_doubtful()
            taken = self._who_goes_first()
            if taken is None and is_late and waits:
                taken = min(waits)
            if taken is not None:
                yield 0.0
                self.files.remove(self.name)
                raise self._refusal(taken)
            if waits:
                yield from self._write()
                yield self.periods.poll
            elif not set(dead) <= set(self._replaced):
                self._replaced = list(dict.fromkeys([*self._records, *dead]))
                yield from self._write()
                yield self.periods.settle
            else:
                self._state = HOLDING
                before = self._written
                yield from self._write()
                if self.now() - before < self.periods.trust:
                    break
                self._state = CLAIMING
        self.trusted_until = self._written + self.periods.trust
        yield from self._remove_replaced()

    def renew(self) -> Steps:
        """Renews the lease, and checks that this job was not replaced.

        Raises:
            TakenOver: If it was replaced, also in all later calls.
        """
        self._refuse_if_lost()
        yield 0.0
        if self.files.read(self.name) is None:
            yield from self._claim_again()
            return
        while True:
            yield from self._write()
            yield from self._look()
            by = self._is_replaced_by() or self._other_holder() or self._half_written()
            if by is None:
                break
            claim = self._seen[by].claim
            if claim is not None and claim.state != CLAIMING:
                yield from self._lose(by)
            if self._is_gone(self._seen[by]):
                break
            yield self.periods.poll  # the other job lists again and sees that this one is alive
        self.trusted_until = self._written + self.periods.trust
        yield from self._remove_replaced()

    def release(self) -> Steps:
        """Releases the lease. The record of replaced leases is kept for jobs that resume later."""
        yield 0.0
        if self._records and not self.is_lost:
            self._state = RELEASED
            self._replaced = self._records[-_MOST_REPLACED:]
            yield from self._write()
        else:
            self.files.remove(self.name)

    def waits_for(self) -> str | None:
        """Returns the holder that `acquire` waits for, or None."""
        others = [s.claim for s in self._seen.values() if s.claim and s.claim.state != RELEASED]
        return str(others[0].holder) if others else None

    def _begin_claim(self) -> Steps:
        if self.name:
            yield 0.0
            self.files.remove(self.name)
        # Names sort by arrival if the hosts' clocks agree, but the protocol does not rely on it.
        self.name = f"{PREFIX}{time.time_ns() // 1_000_000:014d}-{secrets.token_hex(8)}{SUFFIX}"
        self._state, self._replaced = CLAIMING, [*self._records]
        yield from self._write()
        yield self.periods.settle

    def _claim_again(self) -> Steps:
        """Handles a removed lease: either a job replaced it, or it must be acquired again."""
        yield from self._look()
        by = self._is_replaced_by()
        if by is not None:
            yield from self._lose(by)
        try:
            yield from self.acquire()
        except FolderTaken as error:
            self.is_lost = f"the lease on {self.place} was removed, and now: {error}"
            self._refuse_if_lost()

    def _is_there(self) -> Look:
        yield 0.0
        return self.files.read(self.name) is not None

    def _write(self) -> Steps:
        self._count += 1
        self._written = self.now()
        yield 0.0
        claim = Claim(self._state, self._count, tuple(self._replaced), self.holder)
        self.files.write(self.name, claim.to_bytes())

    def _look(self) -> Look:
        """Reads all other leases, and returns whether the own lease is listed."""
        yield 0.0
        names = self.files.names()
        seen: dict[str, Seen] = {}
        for name in names:
            if name == self.name:
                continue
            begin = self.now()
            yield 0.0
            content = self.files.read(name)
            if content is None:
                continue
            earlier = self._seen.get(name)
            if earlier is not None and earlier.content == content:
                earlier.unchanged = begin - earlier.since
                seen[name] = earlier
            else:
                claim = Claim.from_bytes(content)
                seen[name] = Seen(content, claim, self.now(), has_changed=earlier is not None)
        self._seen = seen
        return self.name in names

    def _is_old(self) -> bool:
        """Returns whether the own lease may have been replaced and removed since it was written."""
        return self.now() - self._written >= self.periods.trust

    def _is_replaced_by(self) -> str | None:
        for name, seen in self._seen.items():
            if seen.claim is not None and self.name in seen.claim.replaced:
                return name
        return None

    def _other_holder(self) -> str | None:
        for name, seen in self._seen.items():
            is_holding = seen.claim is not None and seen.claim.state == HOLDING
            if is_holding and name not in self._replaced:
                return name
        return None

    def _half_written(self) -> str | None:
        """Returns a lease that is still being written, which some file systems already show."""
        return next((name for name, seen in self._seen.items() if seen.claim is None), None)

    def _verdict(self, seen: Seen) -> Verdict:
        if seen.claim is None:
            return Verdict.UNKNOWN
        return self.holder.verdict(seen.claim.holder)

    def _is_gone(self, seen: Seen) -> bool:
        return self._verdict(seen) is Verdict.DEAD or seen.unchanged >= self.periods.stale

    def _dead_and_doubtful(self) -> tuple[list[str], list[str]]:
        """Returns the leases that may be replaced and those that may be alive."""
        dead, waits = [], []
        for name, seen in self._seen.items():
            if seen.claim is not None and seen.claim.state == RELEASED:
                self._records += [r for r in seen.claim.replaced if r not in self._records]
                dead.append(name)
                continue
            verdict = self._verdict(seen)
            if verdict is Verdict.DEAD:
                dead.append(name)
            elif verdict is Verdict.EARLIER_START or (
                verdict is Verdict.UNKNOWN and seen.unchanged >= self.periods.stale
            ):
                dead.append(name)
                if name not in self._records:  # its job may resume later
                    self._records.append(name)
            else:
                waits.append(name)
        return dead, waits

    def _who_goes_first(self) -> str | None:
        """Returns the lease of a live job that holds the folder or takes precedence."""
        for name, seen in self._seen.items():
            claim, verdict = seen.claim, self._verdict(seen)
            if claim is None or claim.state == RELEASED or verdict is Verdict.EARLIER_START:
                continue
            is_alive = verdict in (Verdict.ALIVE, Verdict.LATER_START) or seen.has_changed
            is_before = claim.state == HOLDING or name < self.name
            if is_alive and (is_before or verdict is Verdict.LATER_START):
                return name
        return None

    def _remove_replaced(self) -> Steps:
        for name in [name for name in self._seen if name in self._replaced]:
            yield 0.0
            self.files.remove(name)
            del self._seen[name]

    def _lose(self, by: str) -> Steps:
        claim = self._seen[by].claim
        who = str(claim.holder) if claim is not None else f"the lease {by}"
        self.is_lost = (
            f"another job has taken over the checkpoints in {self.place}: {who}. This job did not "
            "renew its lease for too long, or its lease was removed. It stops writing; its saved "
            "checkpoints are intact. End one of the two jobs, or use another folder."
        )
        yield 0.0
        self.files.remove(self.name)
        self._refuse_if_lost()

    def _refuse_if_lost(self) -> None:
        if self.is_lost:
            raise TakenOver(self.is_lost)

    def _refusal(self, name: str) -> FolderTaken:
        seen = self._seen[name]
        who = str(seen.claim.holder) if seen.claim is not None else "an unknown process"
        what = "is acquiring it" if seen.claim and seen.claim.state == CLAIMING else "is using it"
        return FolderTaken(
            f"`directory` must be a folder that no other job saves to. Received: directory="
            f"{self.place!r}, and {who} {what}. Wait until that job has ended, or use another "
            "folder. If it was killed, run again: a dead process of this host is replaced at "
            f"once, any other after {self.periods.stale:g} s without a sign of life. If you are "
            f"sure that no job uses the folder, remove {self.place}/{name}."
        )
