"""What a worker makes of the others' words, and of their silence."""

from __future__ import annotations

import time
from typing import Any

import pytest
import tensorflow as tf

from strategies.liveness.heartbeat import Heartbeat
from strategies.liveness.peers import Peers
from strategies.progress import Place


class Table:
    """The words of three workers, as the second one reads them."""

    names = ("worker 0", "worker 1", "worker 2")
    own = 1

    def __init__(self) -> None:
        self.words: dict[int, str] = {}
        self.fault: Exception | None = None

    def read(self, worker: int, seconds: float) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.words.get(worker)


def beat(number: int) -> Heartbeat:
    return Heartbeat(number, Place(0, number, "step"), 0.0)


def ages_after(peers: Peers, seconds: float) -> list[float]:
    end = time.monotonic() + seconds
    while True:
        peers.look(beat(1))
        if time.monotonic() >= end:
            break
    return [seen.age for seen in peers.seen(beat(1))]


@pytest.fixture
def table() -> Any:
    table = Table()
    table.words = {0: beat(5).to_json(), 2: beat(5).to_json()}
    return table


def test_a_worker_whose_word_stays_the_same_grows_silent(table: Any) -> None:
    peers = Peers(table)
    assert min(ages_after(peers, 0.2)[::2]) >= 0.1
    table.words[2] = beat(6).to_json()
    ages = ages_after(peers, 0.0)
    assert ages[0] >= 0.2
    assert ages[1:] == [0.0, 0.0]


def test_a_worker_that_never_spoke_grows_silent_where_the_table_answers(table: Any) -> None:
    table.names = ("worker 0", "worker 1")
    table.words = {1: beat(1).to_json()}
    assert ages_after(Peers(table), 0.2)[0] >= 0.2
    table.names, table.own = ("worker 0", "worker 1"), 0
    table.words = {0: beat(1).to_json()}
    assert ages_after(Peers(table), 0.2)[1] >= 0.1


@pytest.mark.parametrize("fault", [None, tf.errors.UnavailableError(None, None, "gone")])
def test_while_the_table_does_not_answer_only_its_holder_grows_silent(
    table: Any, fault: Exception | None
) -> None:
    peers = Peers(table)
    peers.look(beat(1))
    table.words, table.fault = {}, fault
    ages = ages_after(peers, 0.2)
    assert ages[0] >= 0.2
    assert ages[1:] == [0.0, 0.0]
