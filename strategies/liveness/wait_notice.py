"""Names the worker that this one waits for, in every program of several workers.

It ends no job, and a step costs only the marks of its progress. Each worker sends a heartbeat once
a second; the others read it only while they wait.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.environments import notice_seconds_from_environment
from strategies.coordination.heartbeats import HeartbeatBoard
from strategies.coordination.rendezvous import workers_of
from strategies.liveness.activity import numbered
from strategies.liveness.blocking_workers import blocking_workers, gives_no_answer, is_behind
from strategies.liveness.heartbeat import LocalHeartbeat, ObservedWorker
from strategies.liveness.peers import Peers
from strategies.progress import followed_by_default, watched

BEAT_SECONDS = 1.0
LOOK_AFTER_SECONDS = 4.0
"""A worker that has not moved for this long reads the heartbeats of the others. Together with the
8 s after which one does not answer, this is below the 20 s after which TensorFlow gives up."""

_CHECKS = {
    "outside": "Look for an `if` that skips the call, and for long work before it.",
    "trace": "Check whether it is still compiling: then its processors are busy.",
    "input": "Check its storage, and what the functions of its dataset wait for.",
    "callbacks": "Check what is slow there; the others continue when it returns.",
    "save": "Check the storage it writes to; the others continue when it has finished.",
    "collective": "Check the network between the workers.",
}
_CHECK_STEP = "Check its processors, and other programs on its host."
_CHECK_CALLS = (
    "Look for an `if` that lets only some workers make this call, and for data of different "
    "lengths."
)
_CHECK_PROCESS = (
    "Check whether its process was stopped, whether it keeps Python's interpreter lock, and the "
    "network to its "
    "host."
)


_Kind = tuple[frozenset[int], str, str]
"""Which workers a worker waits for, their phase, and the rendezvous at which it waits itself."""


class WaitNotice:
    """Prints which workers this one waits for, after `seconds`, and then at doubling intervals.

    A wait that ended by itself may recur with every step: at the same rendezvous, for the same
    worker in the same phase. From then on such a wait is reported only after twice the longest of
    them. A worker that does not answer is named as soon as this is known.

    Args:
        board: Where workers write and read heartbeats.
        seconds: When the first line is printed. Positive.
    """

    def __init__(self, board: HeartbeatBoard, seconds: float) -> None:
        self._board = board
        self._seconds = seconds
        self._name = board.names[board.own]
        self._local_heartbeat = LocalHeartbeat(watched, includes_stack=False)
        self._heart = self._local_heartbeat.beat()
        self._peers: Peers | None = None
        self._due = seconds
        self._said: frozenset[int] = frozenset()
        self._said_silent: frozenset[int] = frozenset()
        self._waited = 0.0
        self._kind: _Kind = (frozenset(), "", "")
        self._ended: dict[_Kind, float] = {}  # The longest wait of each kind.
        self._has_said_how = False
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Starts the threads that write heartbeats and look at those of the others."""
        loops: list[Callable[[], None]] = [self._beat_until_over, self._look_until_over]
        for loop in loops:
            thread = threading.Thread(target=loop, name="tfscale wait notice", daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Stops, after a last heartbeat; called before the program ends."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(2 * BEAT_SECONDS)

    def _beat_until_over(self) -> None:
        is_over = False
        while True:
            end = "has ended its program" if is_over else ""
            self._heart = self._local_heartbeat.beat(end)
            try:
                self._board.write(self._heart.to_json())
            except tf.errors.OpError:
                return  # the table is gone with the first worker
            if is_over:
                return
            is_over = self._is_over.wait(BEAT_SECONDS)

    def _look_until_over(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            beat = self._heart
            if beat.still < min(LOOK_AFTER_SECONDS, self._seconds / 2) or not followed_by_default():
                self._end_wait()
                continue
            if self._peers is None:
                self._peers = Peers(self._board)
            self._peers.look(beat)
            self._report(self._peers.seen(beat), beat.still)

    def _end_wait(self) -> None:
        if self._said:
            names = _listed([self._board.names[i] for i in sorted(self._said)])
            announce(f"{self._name} continues after waiting {self._waited:.0f} s for {names}.")
            self._ended[self._kind] = max(self._ended.get(self._kind, 0.0), self._waited)
        self._peers, self._due = None, self._seconds
        self._said = self._said_silent = frozenset()

    def _report(self, workers: list[ObservedWorker], waited: float) -> None:
        self._waited = waited
        found = blocking_workers(workers, self._board.own)
        silent = frozenset(i for i in found if gives_no_answer(workers[i]))
        is_news = not self._said_silent.issuperset(silent)
        own = workers[self._board.own].heartbeat
        phase = _phase(workers[found[0]]) if found else ""
        kind = (frozenset(found), phase, own.question if own else "")
        due = max(self._due, 2 * self._ended.get(kind, 0.0))
        if not found or (waited < due and not is_news):
            return
        if is_behind(workers, self._board.own, found) and _have_just_arrived(workers, found):
            return  # its answer has been written, but perhaps not read yet
        self._said, self._said_silent, self._kind = frozenset(found), silent, kind
        self._due = max(2 * waited, 2 * self._seconds)
        announce(self._sentence(workers, found, waited))

    def _sentence(self, workers: list[ObservedWorker], found: list[int], waited: float) -> str:
        own = workers[self._board.own].heartbeat
        assert own is not None
        if is_behind(workers, self._board.own, found):
            begin = f"{self._name} has waited {waited:.0f} s at a call that the others did not make"
            parts = [f"{self._name} {own.doing}", *_described(workers, found)]
            look = _CHECK_CALLS
        else:
            step = numbered(own.place)
            where = f"at {own.question!r}" if own.question else f"in the all-reduce of {step},"
            names = _listed([workers[i].name for i in found])
            begin = f"{self._name} has waited {waited:.0f} s {where} for {names}"
            parts, look = _described(workers, found), _look(workers[found[0]])
        how = "" if self._has_said_how else " To end such a job, pass tfscale.callbacks.Watchdog."
        self._has_said_how = True
        return f"{begin}. {'; '.join(parts)}. {look}{how}"


def _have_just_arrived(workers: list[ObservedWorker], found: list[int]) -> bool:
    return any(workers[i].still < LOOK_AFTER_SECONDS / 2 for i in found)


def _described(workers: list[ObservedWorker], found: list[int]) -> list[str]:
    return [_state(workers[i]) for i in found[:3]] + (["..."] if len(found) > 3 else [])


def _state(seen: ObservedWorker) -> str:
    beat = seen.heartbeat
    if beat is None or gives_no_answer(seen):
        last = f"; its last report: it {beat.doing}" if beat else ""
        return f"{seen.name} has not answered for {seen.age:.0f} s{last}"
    if seen.is_over:
        return f"{seen.name} {beat.end}"
    if seen.age >= 3 * BEAT_SECONDS:
        moves = f"has sent no heartbeat for {seen.age:.0f} s"
    elif beat.still >= 2 * BEAT_SECONDS:
        moves = f"has not moved for {seen.still:.0f} s"
    else:
        moves = "moves"
    return f"{seen.name} {beat.doing} and {moves}"


def _phase(seen: ObservedWorker) -> str:
    return seen.heartbeat.place.phase if seen.heartbeat else ""


def _look(seen: ObservedWorker) -> str:
    beat = seen.heartbeat
    if beat is None or gives_no_answer(seen):
        return _CHECK_PROCESS
    if beat.question or seen.is_over:
        return _CHECK_CALLS
    return _CHECKS.get(beat.place.phase, _CHECK_STEP)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_NOTICES: list[WaitNotice] = []


def give_wait_notices(strategy: tf.distribute.Strategy) -> None:
    """Starts the wait notices of this process, once, if the job has several workers.

    Args:
        strategy: A strategy of several workers.

    Raises:
        ValueError: If TFSCALE_NOTICE_SECONDS is not a positive number.
    """
    seconds = notice_seconds_from_environment()
    if _NOTICES or len(workers_of(strategy)) < 2:
        return
    notice = WaitNotice(HeartbeatBoard(strategy, "program"), seconds)
    _NOTICES.append(notice)
    atexit.register(notice.end)
    notice.begin()
