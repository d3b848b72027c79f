from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import pytest
import tensorflow as tf

from tfscale.data.work_lock import Claims


@pytest.fixture(params=["local", "ram"])
def result(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = str(tmp_path) if request.param == "local" else f"ram://{uuid.uuid4().hex}"
    return f"{folder}/set/1.0.0"


def test_a_claim_is_seen_by_others_with_its_owner_and_gone_afterwards(result: str) -> None:
    ours, theirs = (Claims(result, silence_seconds=30.0) for _ in range(2))
    with ours.try_claim() as is_ours:
        assert is_ours
        assert ours.others() == {}
        [(path, owner)] = theirs.others().items()
        assert path.startswith(f"{result}.claim-")
        assert owner.startswith("process ")
        with theirs.try_claim() as is_theirs:
            assert not is_theirs
    assert theirs.others() == {}
    assert not tf.io.gfile.glob(f"{result}*")


def test_a_claim_is_withdrawn_when_the_work_fails(result: str) -> None:
    with pytest.raises(ZeroDivisionError), Claims(result, silence_seconds=30.0).try_claim():
        _ = 1 / 0
    assert Claims(result, silence_seconds=30.0).others() == {}


def test_two_tasks_never_own_the_work_at_once(result: str) -> None:
    owners: list[int] = []
    most_at_once: list[int] = []
    rounds = 25

    def compete(task: int) -> None:
        claims = Claims(result, silence_seconds=30.0)
        for _ in range(rounds):
            with claims.try_claim() as is_ours:
                if is_ours:
                    owners.append(task)
                    most_at_once.append(len(owners))
                    time.sleep(0.001)  # Work: long enough for another to break in.
                    owners.remove(task)

    threads = [threading.Thread(target=compete, args=(task,)) for task in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most_at_once) == {1}


def test_the_claim_of_a_dead_task_is_removed_after_its_silence(result: str) -> None:
    tf.io.gfile.makedirs(result.rpartition("/")[0])
    with tf.io.gfile.GFile(f"{result}.claim-dead", "w") as stream:
        stream.write("process 1 on elsewhere,7")
    claims = Claims(result, silence_seconds=0.3)
    assert list(claims.others().values()) == ["process 1 on elsewhere"]
    start = time.monotonic()
    while claims.others():
        assert time.monotonic() - start < 10.0
        time.sleep(0.01)
    assert time.monotonic() - start > 0.2
    with claims.try_claim() as is_ours:
        assert is_ours


def test_a_task_that_works_longer_than_the_silence_keeps_its_claim(result: str) -> None:
    with Claims(result, silence_seconds=0.6).try_claim():
        watcher = Claims(result, silence_seconds=1.0)
        start = time.monotonic()
        while time.monotonic() - start < 2.0:
            assert watcher.others()
            time.sleep(0.05)


def test_no_late_beat_brings_a_withdrawn_claim_back(tmp_path: Path) -> None:
    claims = Claims(f"{tmp_path}/1.0.0", silence_seconds=0.0006)
    for _ in range(200):
        with claims.try_claim():
            time.sleep(0.0005)  # Some beats, so that the end often falls into one.
        assert list(tmp_path.iterdir()) == []


def test_claims_of_another_version_do_not_count(tmp_path: Path) -> None:
    with Claims(f"{tmp_path}/set/1.0.0", silence_seconds=30.0).try_claim():
        assert Claims(f"{tmp_path}/set/1.0.1", silence_seconds=30.0).others() == {}


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_silence_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"`silence_seconds` must be positive. Received: silence"):
        Claims("/data/set/1.0.0", silence_seconds=seconds)
