from __future__ import annotations

from strategies.deadline import Deadline


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_spent_and_left_add_up_to_the_whole() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock=clock)
    for now in (1000.0, 1003.5, 1009.75):
        clock.now = now
        assert deadline.spent() == now - 1000
        assert deadline.left() == 1010 - now
        assert not deadline.is_over()


def test_nothing_is_left_at_the_end_and_after() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock=clock)
    for now in (1010.0, 5000.0):
        clock.now = now
        assert deadline.is_over()
        assert deadline.left() == deadline.left(at_most=1.0) == 0.0


def test_a_slice_is_never_longer_than_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock=clock)
    assert deadline.left(at_most=3.0) == 3.0
    clock.now = 1008.0
    assert deadline.left(at_most=3.0) == 2.0


def test_a_deadline_of_no_seconds_is_over_at_once() -> None:
    assert Deadline(0.0).is_over()
