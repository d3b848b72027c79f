"""How a worker interprets the heartbeats of the others, and their silence."""

from __future__ import annotations

import time
from typing import Any

import pytest
import tensorflow as tf

from strategies.liveness.heartbeat import Heartbeat
from strategies.liveness.peers import Peers
from strategies.progress import Place


class Table:
    """The heartbeats of three workers, as the second one reads them."""

    names = ("worker 0", "worker 1", "worker 2")
    own = 1

    def __init__(self) -> None:
        self.heartbeats: dict[int, str] = {}
        self.fault: Exception | None = None

    def read(self, worker: int, seconds: float) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.heartbeats.get(worker)


def beat(number: int) -> Heartbeat:
    return Heartbeat(number, Place(0, number, "step"), 0.0)


def ages_after(peers: Peers, seconds: float) -> list[float]:
    end = time.monotonic() + seconds
    is_over = False
    while not is_over:
        is_over = time.monotonic() >= end  # before the last look
        peers.look(beat(1))
    return [seen.age for seen in peers.seen(beat(1))]


@pytest.fixture
def table() -> Any:
    table = Table()
    table.heartbeats = {0: beat(5).to_json(), 2: beat(5).to_json()}
    return table


def test_a_worker_without_a_new_heartbeat_ages(table: Any) -> None:
    peers = Peers(table)
    assert min(ages_after(peers, 0.2)[::2]) >= 0.1
    table.heartbeats[2] = beat(6).to_json()
    ages = ages_after(peers, 0.0)
    assert ages[0] >= 0.2
    assert ages[1:] == [0.0, 0.0]


def test_a_worker_without_any_heartbeat_ages_if_the_table_answers(table: Any) -> None:
    table.names = ("worker 0", "worker 1")
    table.heartbeats = {1: beat(1).to_json()}
    assert ages_after(Peers(table), 0.2)[0] >= 0.2
    table.names, table.own = ("worker 0", "worker 1"), 0
    table.heartbeats = {0: beat(1).to_json()}
    assert ages_after(Peers(table), 0.2)[1] >= 0.1


@pytest.mark.parametrize("fault", [None, tf.errors.UnavailableError(None, None, "gone")])
def test_while_the_table_does_not_answer_only_its_server_ages(
    table: Any, fault: Exception | None
) -> None:
    peers = Peers(table)
    peers.look(beat(1))
    table.heartbeats, table.fault = {}, fault
    ages = ages_after(peers, 0.2)
    assert ages[0] >= 0.2
    assert ages[1:] == [0.0, 0.0]
