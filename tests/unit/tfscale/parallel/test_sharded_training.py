"""A table in shards trains like keras.layers.Embedding: on replicas, and on two servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import forked, run_program

PROGRAM = Path(__file__).with_name("sharded_training.py")
Found = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All that is looked at here, from one program; Keras's tables come from one device."""
    folder = tmp_path_factory.mktemp("sharded")
    run_program(*forked(str(PROGRAM), str(folder)), timeout=240)
    return dict(json.loads((folder / "found.json").read_text("utf-8")))


def is_same(one: Any, other: Any) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() < 1e-12)


OPTIMIZERS = ["sgd, clipped", "adagrad, clipped", "adam", "adam, clipped"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replicas_train_the_table_that_keras_trains(found: Found, optimizer: str) -> None:
    assert is_same(found["mirrored"][optimizer], found["keras"][optimizer])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_worker_trains_a_table_on_two_servers_as_keras_does(found: Found, optimizer: str) -> None:
    assert is_same(found["servers"][optimizer], found["keras"][optimizer])


def test_each_way_of_training_makes_another_table(found: Found) -> None:
    tables = list(found["keras"].values())
    pairs = [(a, b) for index, a in enumerate(tables) for b in tables[:index]]
    assert not any(np.abs(np.subtract(a, b)).max() < 1e-3 for a, b in pairs)


def test_each_server_holds_a_shard_and_its_slots(found: Found) -> None:
    place = "/job:ps/replica:0/task:{}/device:CPU:0"
    assert found["devices"] == [place.format(0), place.format(1)]
    slots = found["devices of slots"]
    assert len(slots) == 4
    for path, device in slots.items():
        assert device == place.format(0 if "shard0of2" in path else 1)


@pytest.mark.parametrize("place", ["mirrored", "servers"])
def test_what_lies_in_shards_is_saved_as_one_table(found: Found, place: str) -> None:
    assert is_same(found["loaded"][place], found[place]["adam, clipped"])


def test_a_table_drawn_block_by_block_on_servers_is_the_one_drawn_at_once(found: Found) -> None:
    assert found["drawn on servers"] == [True, True]


def test_rules_of_whole_variables_are_refused_with_the_cure(found: Found) -> None:
    clipnorm, lamb, lars = found["refused"]
    assert "`clipnorm` must not be set" in clipnorm
    assert "Use global_clipnorm" in clipnorm
    assert "Received: optimizer=Lamb" in lamb
    assert "Received: optimizer=LARS" in lars


@pytest.mark.parametrize("place", ["one device", "mirrored", "servers"])
def test_training_goes_on_in_another_number_of_shards(found: Found, place: str) -> None:
    continued = found["continued"][place]
    as_it_was, *others = continued["tables"]
    assert all(is_same(other, as_it_was) for other in others)
    assert continued["iterations"]
    assert is_same(as_it_was, found["continued"]["one device"]["tables"][0])
