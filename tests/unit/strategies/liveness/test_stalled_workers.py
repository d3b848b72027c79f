"""Which workers stall, in constructed situations."""

from __future__ import annotations

import pytest

from strategies.liveness.blocking_workers import stalled_workers
from strategies.liveness.heartbeat import Heartbeat, ObservedWorker
from strategies.progress import Place


def seen(
    phase: str,
    *,
    step: int = 5,
    still: float = 20.0,
    age: float = 0.5,
    end: str = "",
    batch: int | None = None,
) -> ObservedWorker:
    return ObservedWorker("worker", Heartbeat(3, Place(0, step, phase, batch), still, end=end), age)


WAITS = seen("collective")
MOVES = seen("step", still=0.2)
SILENT = seen("collective", still=1, age=19)


@pytest.mark.parametrize(
    ("workers", "blamed"),
    [
        pytest.param([MOVES, MOVES], [], id="all move"),
        pytest.param([WAITS, seen("input")], [1], id="one reads, one waits for it"),
        pytest.param([seen("callbacks"), WAITS], [0], id="the chief is in a callback"),
        pytest.param([seen("input"), seen("input")], [0, 1], id="the storage of both is gone"),
        pytest.param([seen("input", step=6), seen("input")], [1], id="one is behind"),
        pytest.param([WAITS, seen("step", still=1)], [], id="one waits for one that works"),
        pytest.param([WAITS, seen("evaluate", batch=7, still=1)], [], id="a long evaluation"),
        pytest.param([WAITS, WAITS], [0, 1], id="both wait: a network between them"),
        pytest.param([seen("collective", step=6), WAITS], [1], id="both wait, one is behind"),
        pytest.param([WAITS, seen("step", end="has ended its fit")], [1], id="one has ended"),
        pytest.param([MOVES, seen("step", end="has ended its fit")], [], id="one was faster"),
        pytest.param([WAITS, seen("step", still=1, age=19)], [1], id="one is silent"),
        pytest.param([seen("input"), seen("step", still=1, age=19)], [1], id="silence first"),
        pytest.param([WAITS, SILENT, SILENT], [1, 2], id="two are silent"),
        pytest.param([WAITS, ObservedWorker("worker", None, 11.0)], [1], id="no heartbeat ever"),
        pytest.param([WAITS, ObservedWorker("worker", None, 3.0)], [], id="no heartbeat yet"),
        pytest.param([seen("input")], [0], id="a single process"),
    ],
)
def test_the_worker_that_is_behind_is_blamed_and_not_the_one_that_waits(
    workers: list[ObservedWorker], blamed: list[int]
) -> None:
    assert stalled_workers(workers, 10.0) == blamed


def test_a_heartbeat_survives_the_table() -> None:
    beat = Heartbeat(7, Place(1, 40, "evaluate", 3), 4.5, 'File "a.py", line 1\n  ä', "")
    assert Heartbeat.from_json(beat.to_json()) == beat


def test_the_sentence_names_worker_place_and_time() -> None:
    place = Place(epoch=1, step=4, phase="input")
    still = ObservedWorker("worker 1", Heartbeat(9, place, 8.0), 0.4)
    assert still.sentence() == "worker 1 has not moved for 8 s: epoch 2, step 5, phase input."
    assert ObservedWorker("worker 1", still.heartbeat, 6.0).sentence() == (
        "worker 1 has not answered for 6 s, last at epoch 2, step 5, phase input."
    )
    assert ObservedWorker("worker 1", None, 6.0).sentence() == "worker 1 has not answered for 6 s."
    failed = ObservedWorker("worker 1", Heartbeat(9, place, 0.0, end="failed with OSError"), 60.0)
    assert failed.sentence() == "worker 1 failed with OSError: epoch 2, step 5, phase input."
