"""Which hosts train together, and when that changes: a state machine without sockets and clock.

    FORMING --start--> RUNNING --stop--> ENDING --all have ended--> FORMING
                          |                 |
                          +--> OVER <-------+   (FORMING too)

A job starts as soon as the largest number of workers is there, or when at least the smallest number
is there and no other host has joined for some seconds. A failure, a host that is lost or leaves,
and a host that joins a job with less than its largest number of workers all end the workers of
every host. Then the job starts again with those that are there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from tfscale.files.room import megabytes
from tfscale.launch.elastic.memory import Peaks
from tfscale.launch.elastic.messages import (
    Ended,
    Failing,
    Finish,
    Leaving,
    Message,
    Note,
    Offer,
    Start,
    Stop,
)
from tfscale.launch.outcome import JUDGE_SECONDS, PREEMPTED_STATUS, WorkerFailure
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy

_SAY_SECONDS = 1.0
_OFFER_SECONDS = 10.0  # less than the silence after which a launcher is lost
_CANNOT_START = "The job cannot start: run this command on more hosts, or let MIN be smaller"
"""Launchers that are there offer to start workers within this time, so it says nothing before."""


@dataclass(frozen=True)
class Rules:
    """What does not change while the job lives. Numbers of hosts are positive, seconds at least 0.

    Attributes:
        min_hosts: Fewest hosts to start with.
        max_hosts: Most hosts. At least `min_hosts`.
        workers_per_host: Workers of each host.
        settle_seconds: How long no host must join before a start with fewer than all hosts, and
            before a running job is ended for those that have joined.
        join_seconds: How long the job waits for hosts before it is over.
        end_seconds: How long a host has to end its workers before it counts as lost.
        policy: Decides which failures are followed by a restart.
        checks_memory: Whether starts with fewer workers need room for their larger shares.
    """

    min_hosts: int
    max_hosts: int
    workers_per_host: int
    settle_seconds: float
    join_seconds: float
    end_seconds: float
    policy: RestartPolicy
    checks_memory: bool


class Phase(enum.Enum):
    """What the job does."""

    FORMING = "waits for hosts"
    RUNNING = "runs"
    ENDING = "ends its workers"
    OVER = "is over"


class Why(enum.Enum):
    """Why the workers of a start are ended."""

    RESIZE = "hosts have joined"
    LEFT = "a host leaves"
    FAILURE = "a worker failed, or a host is lost"
    WITNESS = "a worker failed because of one elsewhere, which may be known in a moment"
    STOPPED = "the launcher that runs the rendezvous ends"


@dataclass(frozen=True)
class Cause:
    """The cause of the end of a start: `sentence` without its end mark, `status` as of a shell."""

    why: Why
    sentence: str
    status: int
    at: float


@dataclass
class Member:
    """A launcher.

    Attributes:
        name: For messages, such as "host 10.0.0.2".
        address: The host in the addresses of its workers.
        is_local: Whether the rendezvous runs in it.
        offer: With what it would start; None while it has workers.
        runs: Whether it belongs to the present start.
        ended: How its part of this start ended; None while it runs.
        is_leaving: Whether it has said that it will end.
    """

    name: str
    address: str
    is_local: bool
    offer: Offer | None = None
    runs: bool = False
    ended: Ended | None = None
    is_leaving: bool = False


class Membership:
    """The state of a job. Every method takes the time, on one clock, in seconds.

    Args:
        rules: What does not change.
        now: The time.

    Attributes:
        phase: What the job does.
        orders: What to send, each with the number of its member. The caller takes them out.
        gone: Numbers of members whose connections the caller must close.
    """

    def __init__(self, rules: Rules, now: float) -> None:
        self.phase = Phase.FORMING
        self.orders: list[tuple[int, Message]] = []
        self.gone: list[int] = []
        self._rules = rules
        self._members: dict[int, Member] = {}  # By number: in the order in which they joined.
        self._starts = self._size = 0
        self._started = self._formed_from = self._changed = self._not_before = now
        self._judge_at: float | None = None
        self._end_by = now
        self._cause: Cause | None = None
        self._failures: list[WorkerFailure] = []
        self._peaks = Peaks()
        self._said = ""

    def join(self, number: int, address: str, is_local: bool) -> None:
        """Adds a launcher. `number` is larger than those of all before it."""
        self._members[number] = Member(f"host {address}", address, is_local)

    def offer(self, number: int, offer: Offer, now: float) -> None:
        """A launcher can start workers."""
        member = self._members[number]
        if member.runs and member.ended is None:
            self.lose(number, "it offered ports while its workers run", now)
            return
        is_new = not member.runs
        member.offer, self._changed = offer, now
        if self.phase is Phase.RUNNING and is_new:
            full = len(self._running()) == self._rules.max_hosts
            then = "It waits as a spare" if full else "The job restarts with it"
            self._note(f"{member.name} has joined. {then}")
        self.advance(now)

    def fail(self, number: int, failing: Failing, now: float) -> None:
        """Workers of a launcher have failed."""
        member = self._members[number]
        if not member.runs:
            return
        why = Why.FAILURE if failing.is_own else Why.WITNESS
        sentence = f"{failing.sentence}, on {member.name}"
        self._end(Cause(why, sentence, failing.status, now), now)

    def end(self, number: int, ended: Ended, now: float) -> None:
        """All workers of a launcher have ended."""
        member = self._members[number]
        if not member.runs or member.ended is not None:
            return
        member.ended = ended
        # A start that failed early may not have trained at all.
        is_measured = ended.saved or now - self._started >= self._rules.policy.early_seconds
        if ended.peak is not None and is_measured:
            self._peaks.note(self._size, ended.peak)
        if not ended.succeeded and self._cause is None:
            status = PREEMPTED_STATUS if ended.saved else 1
            self._end(Cause(Why.FAILURE, f"the workers of {member.name} ended", status, now), now)
        self.advance(now)

    def leave(self, number: int, leaving: Leaving, now: float) -> None:
        """A launcher will end. If the rendezvous runs in it, the job ends."""
        member = self._members[number]
        again, member.is_leaving = member.is_leaving, True
        if not member.is_local:
            if member.runs and member.ended is None:
                self._end(Cause(Why.LEFT, f"{member.name} leaves: {leaving.reason}", 1, now), now)
            else:
                self.lose(number, f"it left: {leaving.reason}", now)
            return
        sentence = f"{leaving.reason}, on {member.name}, whose launcher runs the rendezvous"
        if again or self.phase is Phase.FORMING:
            self._finish(leaving.status, f"{sentence}; the whole job was ended")
        else:
            self._end(Cause(Why.STOPPED, sentence, leaving.status, now), now)

    def lose(self, number: int, reason: str, now: float) -> None:
        """A launcher is gone, or must go.

        Args:
            number: Its number; one that is unknown changes nothing.
            reason: Why, such as "its connection has ended".
            now: The time.
        """
        member = self._members.pop(number, None)
        if member is None:
            return
        self.gone.append(number)
        self._changed = now
        failed = member.runs and not (member.ended is not None and member.ended.succeeded)
        if failed and self.phase in (Phase.RUNNING, Phase.ENDING) and not member.is_leaving:
            cause = Cause(Why.FAILURE, f"{member.name} is lost: {reason}", 1, now)
            if self.phase is Phase.ENDING:
                self._note(cause.sentence)
            self._end(cause, now)
        elif self.phase is not Phase.OVER and not member.runs:
            self._note(f"{member.name} is gone: {reason}")
        self.advance(now)

    def advance(self, now: float) -> None:
        """Does what is due. Must be called from time to time."""
        match self.phase:
            case Phase.FORMING:
                self._form(now)
            case Phase.RUNNING:
                self._watch(now)
            case Phase.ENDING:
                late = [n for n, m in self._members.items() if m.runs and m.ended is None]
                if not late:
                    self._decide(now)
                elif now >= self._end_by:
                    for number in late:
                        self.lose(number, "it did not end its workers in time", now)

    def _form(self, now: float) -> None:
        rules = self._rules
        ready = {n: m for n, m in self._members.items() if m.offer is not None}
        chosen = dict(list(ready.items())[: rules.max_hosts])
        # One that is connected says in a moment what it offers; before, nothing is decided.
        is_awaited = not self._members or any(
            m.offer is None and not m.is_leaving for m in self._members.values()
        )
        patience = _OFFER_SECONDS if is_awaited else 0.0
        is_late = now >= self._formed_from + rules.join_seconds + patience
        has_settled = now >= self._changed + max(rules.settle_seconds, patience) or is_late
        wanting = self._lack_of_workers(chosen) or self._lack_of_memory(chosen)
        if wanting and is_late:
            self._finish(1, f"after {rules.join_seconds:g} s {wanting}. {_CANNOT_START}")
        elif wanting:
            said = f"{wanting}. Waiting for more, for at most {rules.join_seconds:g} s"
            if said != self._said and now >= self._formed_from + _SAY_SECONDS:
                self._said = said
                self._note(said)
        elif now >= self._not_before and (len(chosen) == rules.max_hosts or has_settled):
            self._start(chosen, now)

    def _lack_of_workers(self, chosen: dict[int, Member]) -> str:
        rules = self._rules
        if len(chosen) >= rules.min_hosts:
            return ""
        there = ", ".join(member.name for member in chosen.values()) or "no host"
        least = rules.min_hosts * rules.workers_per_host
        return f"{self._workers(chosen)} of at least {least} workers are there ({there})"

    def _lack_of_memory(self, chosen: dict[int, Member]) -> str:
        workers = self._workers(chosen)
        bound = self._peaks.bound(workers) if self._rules.checks_memory else None
        if bound is None:
            return ""
        need = bound * self._rules.workers_per_host
        for member in chosen.values():
            room = None if member.offer is None else member.offer.room
            if room is not None and room < need:
                return (
                    f"{workers} workers may need {megabytes(need)} on {member.name}, where "
                    f"{megabytes(room)} are free (measured with more workers and smaller shares of "
                    "the batch; --skip_memory_check starts anyway)"
                )
        return ""

    def _start(self, chosen: dict[int, Member], now: float) -> None:
        addresses = tuple(
            f"{member.address}:{port}"
            for member in chosen.values()
            if member.offer is not None
            for port in member.offer.ports
        )
        spares = [member.name for number, member in self._members.items() if number not in chosen]
        hosts = ", ".join(member.name for member in chosen.values())
        said = f"; spare: {', '.join(spares)}" if spares else ""
        self._note(f"start {self._starts}: {len(addresses)} workers, {hosts}{said}")
        for place, (number, member) in enumerate(chosen.items()):
            member.offer, member.runs, member.ended = None, True, None
            first = place * self._rules.workers_per_host
            self.orders.append((number, Start(self._starts, addresses, first)))
        self._starts, self._size = self._starts + 1, len(addresses)
        self._started, self._cause, self._judge_at = now, None, None
        self.phase = Phase.RUNNING

    def _watch(self, now: float) -> None:
        running = self._running()
        if all(m.ended is not None and m.ended.succeeded for m in running.values()):
            self._finish(0, "every worker succeeded")
            return
        if self._cause is not None:  # a witness's: those at fault have a few seconds to end
            is_judged = self._judge_at is not None and now >= self._judge_at
            if is_judged or all(member.ended is not None for member in running.values()):
                self._stop(now)
            return
        joined = [m for m in self._members.values() if m.offer is not None and not m.runs]
        has_settled = now >= self._changed + self._rules.settle_seconds
        is_ending = any(member.ended is not None for member in running.values())
        if joined and has_settled and not is_ending and len(running) < self._rules.max_hosts:
            names = ", ".join(member.name for member in joined)
            self._end(Cause(Why.RESIZE, f"{names} joined", 0, now), now)

    def _end(self, cause: Cause, now: float) -> None:
        """Ends the start; if the cause is a witness's, in a few seconds."""
        known = self._cause
        is_explained = known is not None and known.why is Why.WITNESS and cause.why is Why.FAILURE
        if known is None or is_explained or cause.why is Why.STOPPED:
            self._cause = cause
        if self.phase is not Phase.RUNNING:
            return
        if cause.why is Why.WITNESS:
            self._judge_at = self._judge_at or now + JUDGE_SECONDS
            self.advance(now)
        else:
            self._stop(now)

    def _stop(self, now: float) -> None:
        assert self._cause is not None
        self.phase = Phase.ENDING
        self._end_by = now + self._rules.end_seconds
        self._note(f"{self._cause.sentence}; ending the workers of all hosts")
        for number, member in self._running().items():
            if member.ended is None:
                self.orders.append((number, Stop()))
        self.advance(now)

    def _decide(self, now: float) -> None:
        """Every worker has ended: the job is over, or it starts again."""
        assert self._cause is not None
        cause, running = self._cause, self._running()
        saved = bool(running) and all(m.ended and m.ended.saved for m in running.values())
        for number, member in running.items():
            member.runs, member.ended = False, None
            if member.is_leaving and not member.is_local:
                del self._members[number]
                self.gone.append(number)
        match cause.why:
            case Why.STOPPED:
                status = PREEMPTED_STATUS if saved else cause.status
                done = "the whole job was ended" + (", all saved before" if saved else "")
                self._finish(status, f"{cause.sentence}; {done}")
                return
            case Why.RESIZE | Why.LEFT:
                wait, said = 0.0, "Restart, not counted" + (" (all saved)" if saved else "")
            case Why.WITNESS | Why.FAILURE:
                # 42 of a worker that was preempted by itself: the policy does not count it.
                self._failures.append(WorkerFailure(0, cause.status, cause.at - self._started))
                match self._rules.policy.decide(self._failures):
                    case NoRestart(reason):
                        done = f"the whole job was ended; not restarted: {reason}"
                        self._finish(cause.status, f"{cause.sentence}; {done}")
                        return
                    case Restart() as restart:
                        wait, free = restart.wait_seconds, ", not counted (preempted)"
                        said = (
                            f"Restart in {wait:g} s{free if restart.free else ''}; {restart.used} "
                            f"of {self._rules.policy.max_restarts} restarts used"
                        )
        self._note(f"{cause.sentence}. {said}")
        self.phase = Phase.FORMING
        self._formed_from = self._changed = now
        self._not_before = now + wait
        self._said = ""

    def _finish(self, status: int, sentence: str) -> None:
        self.phase = Phase.OVER
        order = Finish(status, sentence, max(0, self._starts - 1))
        self.orders += [(number, order) for number in self._members]

    def _running(self) -> dict[int, Member]:
        return {number: member for number, member in self._members.items() if member.runs}

    def _workers(self, members: Iterable[int]) -> int:
        return len(list(members)) * self._rules.workers_per_host

    def _note(self, text: str) -> None:
        self.orders += [(number, Note(text)) for number in self._members]
