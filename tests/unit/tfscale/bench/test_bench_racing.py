"""Races of real processes that need no TensorFlow."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tfscale
from tfscale.bench.contestant import Contestant, Failed, Missing
from tfscale.bench.racing import Result, rows_of, run_race
from tfscale.bench.turns import peak_bytes, resident_bytes
from tfscale.bench.variant import Race, Variant

ROOT = Path(tfscale.__file__).parents[1]
PROGRAM = "tests.unit.tfscale.bench.bench_programs"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a short name, for a socket's path holds a hundred letters; children import from ROOT."""
    monkeypatch.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)


def raced(
    *names: str,
    folder: Path,
    timeout_seconds: float = 240.0,
    num_workers: int = 0,
    num_processes: int = 1,
) -> Result:
    race = Race("", str(folder / "turns"), 3, 10, None, 32, 2, timeout_seconds, 120.0)
    variants = [
        Variant(
            name, "a child", program=PROGRAM, num_workers=num_workers, num_processes=num_processes
        )
        for name in names
    ]
    return run_race(race, variants, folder, lambda line: None)


def test_variants_take_turns_and_the_first_round_is_dropped(folder: Path) -> None:
    result = raced("a", "b", "c", folder=folder)
    assert (folder / "turns").read_text("utf-8").split() == ["a", "b", "c"] * 3
    assert {name: len(turns) for name, turns in result.turns.items()} == {"a": 2, "b": 2, "c": 2}
    assert all(turn.seconds > 0 for turns in result.turns.values() for turn in turns)
    assert min(result.peak_bytes.values()) > 1_000_000
    assert result.first_loss == {"a": 0.5, "b": 0.5, "c": 0.5}


@pytest.mark.parametrize("kind", ["num_workers", "num_processes"])
def test_processes_of_a_variant_run_their_turns_together(folder: Path, kind: str) -> None:
    result = raced("pair", "other", folder=folder, **{kind: 2})
    assert (folder / "turns").read_text("utf-8").split() == ["pair", "pair", "other", "other"] * 3
    assert len(result.turns["pair"]) == 2


def test_processor_time_is_the_sum_of_the_processes_and_waiting_uses_none(folder: Path) -> None:
    # A turn of "busy" computes for 0.2 s, a turn of "waits" sleeps for 0.2 s.
    result = raced("busy", "waits", folder=folder, num_processes=2)
    for busy, waits in zip(result.turns["busy"], result.turns["waits"], strict=True):
        assert busy.processor_seconds == pytest.approx(0.4, rel=0.2)
        assert waits.seconds >= 0.2
        assert waits.processor_seconds < 0.1


def test_a_variant_that_misses_a_library_is_skipped_and_the_others_are_raced(folder: Path) -> None:
    result = raced("a", "missing", folder=folder)
    first, second = rows_of(result)
    assert (len(first.rounds), first.skipped) == (2, "")
    assert (second.rounds, second.skipped) == ((), "no such library")


def test_what_workers_have_said_is_read_though_they_have_ended(folder: Path) -> None:
    race = Race("", str(folder / "turns"), 3, 10, None, 32, 2, 60.0, 120.0)
    workers = Variant("missing", "a child", program=PROGRAM, num_workers=2)
    contestant = Contestant(workers, race, folder)
    try:
        (launcher,) = contestant._processes
        launcher.wait(timeout=240.0)
        with pytest.raises(Missing, match="no such library"):
            contestant.wait_until_ready()
    finally:
        contestant.end()


def test_what_a_process_has_said_that_ends_between_two_looks_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfscale.bench.contestant._POLL_SECONDS", 0.001)
    race = Race("", str(folder / "turns"), 3, 10, None, 32, 2, 240.0, 240.0)
    single = Contestant(Variant("missing", "a child", program=PROGRAM), race, folder)
    (process,) = single._processes
    look = single._has_lost_one
    monkeypatch.setattr(single, "_has_lost_one", lambda: process.wait(240.0) is not None and look())
    try:
        with pytest.raises(Missing, match="no such library"):
            single.wait_until_ready()
    finally:
        single.end()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dies", "dies: the process ended with status 3. Last line printed: no such library"),
        ("stops", "stops: the process ended with status 4. Last line printed: out of memory"),
        ("wrong", "wrong: `data` must be data."),
    ],
)
def test_a_variant_that_fails_ends_the_race_with_its_message(
    name: str, sentence: str, folder: Path
) -> None:
    with pytest.raises(Failed) as raised:
        raced("a", name, folder=folder)
    assert str(raised.value) == sentence
    assert raised.value.is_wrong_usage is (name == "wrong")


@pytest.mark.parametrize("name", ["silent", "hangs"])
def test_a_race_does_not_wait_beyond_the_deadline(name: str, folder: Path) -> None:
    started = time.monotonic()
    # Time enough for a child to start, for it imports next to nothing.
    with pytest.raises(Failed, match=r"not ready after|no answer in"):
        raced(name, folder=folder, timeout_seconds=6.0)
    assert time.monotonic() - started < 100.0
    process = int((folder / "turns").read_text("utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_memory_of_this_process_is_between_nothing_and_its_peak() -> None:
    assert 1_000_000 < resident_bytes() < 1.1 * peak_bytes()  # The kernel counts in batches.
