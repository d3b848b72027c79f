"""The states of an elastic job, with a clock of the test's own."""

from __future__ import annotations

import dataclasses

import pytest

from tfscale.launch.elastic.membership import Membership, Phase, Rules
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
from tfscale.launch.restarts import RestartPolicy

RULES = Rules(
    min_hosts=2,
    max_hosts=3,
    workers_per_host=1,
    settle_seconds=5.0,
    join_seconds=100.0,
    end_seconds=20.0,
    policy=RestartPolicy(max_restarts=2, early_seconds=20.0),
    checks_memory=True,
)
SUCCEEDED, SAVED = Ended(True, False, None), Ended(False, True, None)
STOPPED = Ended(False, False, None)
BAD = Failing("worker 1 failed first: exit status 7 after 3.0 s", 7, True)
WITNESS = Failing("worker 0 failed first: killed by SIGABRT after 3.0 s", 134, False)


class Job:
    """A membership of hosts 0, 1, ..., of which host 0 runs the rendezvous."""

    def __init__(self, **rules: object) -> None:
        self.now = 0.0
        self.membership = Membership(dataclasses.replace(RULES, **rules), self.now)  # type: ignore[arg-type]

    def join(self, *numbers: int, room: int | None = None) -> Job:
        for number in numbers:
            self.membership.join(number, f"h{number}", number == 0)
        return self.offer(*numbers, room=room)

    def offer(self, *numbers: int, room: int | None = None) -> Job:
        for number in numbers:
            self.membership.offer(number, Offer((2000 + number,), room), self.now)
        return self

    def end(self, how: Ended, *numbers: int) -> Job:
        for number in numbers:
            self.membership.end(number, how, self.now)
        return self

    def after(self, seconds: float) -> Job:
        self.now += seconds
        self.membership.advance(self.now)
        return self

    def taken(self, kind: type[Message]) -> dict[int, Message]:
        """The newest order of a kind for each host; takes all orders out."""
        orders, self.membership.orders = self.membership.orders, []
        return {number: order for number, order in orders if isinstance(order, kind)}

    def starts(self) -> dict[int, tuple[int, int, int]]:
        """Of each host that starts: earlier starts, workers, and its first worker."""
        return {
            number: (order.restart, len(order.addresses), order.first)
            for number, order in self.taken(Start).items()
            if isinstance(order, Start)
        }

    def finish(self) -> tuple[int, str]:
        found = set(self.taken(Finish).values())
        (order,) = found
        assert isinstance(order, Finish)
        assert self.membership.phase is Phase.OVER
        return order.status, order.sentence

    def restarted(self, how: Ended, *numbers: int) -> Job:
        """Ends the workers of hosts that were told to, which then offer themselves again."""
        assert self.membership.phase is Phase.ENDING
        return self.end(how, *numbers).offer(*numbers)


def running(*numbers: int, **rules: object) -> Job:
    job = Job(**rules).join(*numbers).after(5.0)
    assert set(job.starts()) == {*numbers}
    return job


def test_a_job_starts_at_once_with_all_hosts_in_the_order_of_joining() -> None:
    job = Job().join(0, 1)
    assert job.starts() == {}
    assert job.join(2).starts() == {0: (0, 3, 0), 1: (0, 3, 1), 2: (0, 3, 2)}


def test_a_job_starts_with_fewer_hosts_when_no_other_has_joined_for_some_seconds() -> None:
    job = Job().join(0).after(4.0).join(1).after(4.9)
    assert job.starts() == {}
    assert job.after(0.1).starts() == {0: (0, 2, 0), 1: (0, 2, 1)}


def test_a_host_that_is_connected_and_slow_to_offer_belongs_to_the_start() -> None:
    job = running(0, 1, 2).after(60.0)
    job.membership.fail(1, BAD, job.now)
    assert job.end(STOPPED, 0, 1, 2).offer(0, 2).after(9.0).starts() == {}
    assert job.offer(1).starts() == {0: (1, 3, 0), 1: (1, 3, 1), 2: (1, 3, 2)}


def test_a_host_that_never_offers_is_waited_for_ten_seconds() -> None:
    job = Job().join(0, 1)
    job.membership.join(2, "h2", False)
    assert job.after(9.9).starts() == {}
    assert set(job.after(0.1).starts()) == {0, 1}


def test_the_launcher_of_the_rendezvous_is_named_though_it_was_slow_to_join() -> None:
    job = Job(join_seconds=1.0).after(5.0)
    assert job.membership.phase is Phase.FORMING
    assert "after 1 s 1 of at least 2 workers are there (host h0)" in job.join(0).finish()[1]


def test_workers_of_a_host_are_numbered_in_a_row() -> None:
    job = Job(workers_per_host=2)
    for number in (0, 1, 2):
        job.membership.join(number, f"h{number}", number == 0)
        job.membership.offer(number, Offer((20 + number, 30 + number), None), 0.0)
    addresses = ("h0:20", "h0:30", "h1:21", "h1:31", "h2:22", "h2:32")
    assert job.taken(Start) == {
        number: Start(0, addresses, first) for number, first in enumerate([0, 2, 4])
    }


def test_too_few_hosts_end_the_wait_by_name() -> None:
    job = Job().join(0).after(99.9)
    assert job.membership.phase is Phase.FORMING
    status, sentence = job.after(0.1).finish()
    assert status == 1
    assert sentence == (
        "after 100 s 1 of at least 2 workers are there (host h0). The job cannot start: "
        "run this command on more hosts, or let MIN be smaller"
    )


def test_a_host_that_joins_and_leaves_again_and_again_does_not_prevent_a_start() -> None:
    job = Job(max_hosts=4).join(0, 1)
    for number in range(2, 40):
        job.after(4.0).join(number)
        job.membership.lose(number, "gone", job.now)
        if job.membership.phase is Phase.RUNNING:
            break
    assert job.membership.phase is Phase.RUNNING
    assert job.now <= 104.0


def test_success_of_every_host_is_success_of_the_job() -> None:
    job = running(0, 1, 2).end(SUCCEEDED, 1, 2)
    job.membership.lose(2, "it has ended", job.now)
    assert job.membership.phase is Phase.RUNNING
    assert job.end(SUCCEEDED, 0).finish() == (0, "every worker succeeded")


def test_a_lost_host_restarts_the_job_with_the_others() -> None:
    job = running(0, 1, 2).after(60.0)
    job.membership.lose(2, "its connection has ended", job.now)
    assert set(job.taken(Stop)) == {0, 1}
    assert job.restarted(STOPPED, 0, 1).starts() == {}
    assert job.after(5.0).starts() == {0: (1, 2, 0), 1: (1, 2, 1)}


def test_a_failed_worker_restarts_the_job_at_the_same_size_after_a_second() -> None:
    job = running(0, 1, 2).after(60.0)
    job.membership.fail(1, BAD, job.now)
    assert set(job.taken(Stop)) == {0, 1, 2}
    assert job.restarted(STOPPED, 0, 1, 2).after(0.9).starts() == {}
    assert job.after(0.1).starts() == {0: (1, 3, 0), 1: (1, 3, 1), 2: (1, 3, 2)}


def test_failures_use_up_restarts_and_the_last_one_is_the_status() -> None:
    job = running(0, 1)
    for _ in range(2):
        job.after(60.0).membership.fail(1, BAD, job.now)
        job.restarted(STOPPED, 0, 1).after(6.0)
        assert job.starts()
    job.after(60.0).membership.fail(1, BAD, job.now)
    assert job.end(STOPPED, 0, 1).finish() == (
        7,
        f"{BAD.sentence}, on host h1; the whole job was ended; not restarted: 2 of 2 restarts are "
        "used",
    )


def test_three_early_failures_in_a_row_are_not_followed_by_a_restart() -> None:
    job = running(0, 1, policy=RestartPolicy(max_restarts=9, early_seconds=20.0))
    for wait in (1.0, 2.0):
        job.membership.fail(1, BAD, job.now)
        job.restarted(STOPPED, 0, 1).after(wait).after(5.0)
        assert job.starts()
    job.membership.fail(1, BAD, job.now)
    assert "3 times in a row the job ended within 20 s" in job.end(STOPPED, 0, 1).finish()[1]


def test_a_host_that_joins_is_let_in_without_using_up_a_restart() -> None:
    job = running(0, 1, policy=RestartPolicy(max_restarts=0, early_seconds=20.0))
    for restart in range(1, 6):
        number = restart + 1
        assert job.join(number).after(4.9).taken(Stop) == {}
        assert set(job.after(0.1).taken(Stop)) == {0, 1}
        assert job.restarted(SAVED, 0, 1).after(0.0).starts() == {
            0: (2 * restart - 1, 3, 0),
            1: (2 * restart - 1, 3, 1),
            number: (2 * restart - 1, 3, 2),
        }
        job.membership.leave(number, Leaving("SIGTERM received", 143), job.now)
        job.end(SAVED, number)
        assert job.restarted(SAVED, 0, 1).after(5.0).starts() == {
            0: (2 * restart, 2, 0),
            1: (2 * restart, 2, 1),
        }


def test_a_host_above_the_largest_number_waits_and_replaces_one_that_is_lost() -> None:
    job = running(0, 1, 2)
    assert job.join(3).after(60.0).taken(Stop) == {}
    job.membership.lose(1, "no sign of life for 15 s", job.now)
    assert job.restarted(STOPPED, 0, 2).after(1.0).starts() == {
        0: (1, 3, 0),
        2: (1, 3, 1),
        3: (1, 3, 2),
    }


def test_a_witness_is_believed_only_if_nothing_better_is_known_in_time() -> None:
    job = running(0, 1, 2).after(60.0)
    job.membership.fail(0, WITNESS, job.now)
    job.end(STOPPED, 0).after(2.9)
    assert job.taken(Stop) == {}
    job.membership.fail(1, BAD, job.now)
    assert set(job.taken(Stop)) == {1, 2}
    job.end(STOPPED, 1, 2)
    notes = [note.text for note in job.taken(Note).values() if isinstance(note, Note)]
    assert notes[-1].startswith(f"{BAD.sentence}, on host h1. Restart")

    job = running(0, 1, 2).after(60.0)
    job.membership.fail(0, WITNESS, job.now)
    job.after(3.0)
    assert set(job.taken(Stop)) == {0, 1, 2}


def test_a_host_that_does_not_end_its_workers_is_lost() -> None:
    job = running(0, 1, 2).after(60.0)
    job.membership.fail(1, BAD, job.now)
    job.restarted(STOPPED, 0, 1).after(19.9)
    assert job.membership.phase is Phase.ENDING
    assert job.after(0.1).membership.gone == [2]
    assert set(job.after(5.0).starts()) == {0, 1}


@pytest.mark.parametrize(("how", "status"), [(SAVED, 42), (STOPPED, 143)])
def test_the_job_ends_with_the_launcher_of_the_rendezvous(how: Ended, status: int) -> None:
    job = running(0, 1).after(60.0)
    job.membership.leave(0, Leaving("SIGTERM received", 143), job.now)
    assert set(job.taken(Stop)) == {0, 1}
    found, sentence = job.end(how, 0, 1).finish()
    assert found == status
    assert sentence.startswith("SIGTERM received, on host h0, whose launcher runs the rendezvous")


def test_a_second_signal_to_the_launcher_of_the_rendezvous_does_not_wait() -> None:
    job = running(0, 1).after(60.0)
    for _ in range(2):
        job.membership.leave(0, Leaving("SIGINT received", 130), job.now)
    assert job.finish()[0] == 130


PEAK = 10**9


def measured(room: int, checks_memory: bool = True) -> Job:
    """Three hosts that have trained with a peak of 1 GB each, and lost one."""
    job = running(0, 1, 2, checks_memory=checks_memory).after(60.0)
    job.membership.lose(2, "its connection has ended", job.now)
    return job.end(Ended(False, False, PEAK), 0, 1).offer(0, 1, room=room)


def test_fewer_workers_start_only_where_their_larger_shares_have_room() -> None:
    assert set(measured(room=PEAK * 3 // 2).after(5.0).starts()) == {0, 1}
    job = measured(room=PEAK * 3 // 2 - 1).after(5.0)
    assert job.membership.phase is Phase.FORMING
    (note, _) = job.taken(Note).values()
    assert isinstance(note, Note)
    assert "2 workers may need 1.50 GB on host h0, where 1.50 GB are free" in note.text
    assert set(job.join(3).starts()) == {0, 1, 3}


def test_without_room_the_wait_ends_by_name_or_is_not_begun() -> None:
    status, sentence = measured(room=PEAK).after(100.0).finish()
    assert status == 1
    assert "2 workers may need 1.50 GB on host h0" in sentence
    assert set(measured(room=PEAK, checks_memory=False).after(5.0).starts()) == {0, 1}


def test_a_start_that_failed_early_is_no_measurement() -> None:
    job = running(0, 1, 2).after(14.9)
    job.membership.lose(2, "its connection has ended", job.now)
    job.end(Ended(False, False, PEAK), 0, 1).offer(0, 1, room=1)
    assert set(job.after(5.0).starts()) == {0, 1}
