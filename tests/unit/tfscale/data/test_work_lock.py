from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import pytest
import tensorflow as tf

from tfscale.data.work_lock import WorkLock


@pytest.fixture(params=["local", "ram"])
def result(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = str(tmp_path) if request.param == "local" else f"ram://{uuid.uuid4().hex}"
    return f"{folder}/set/1.0.0"


def test_other_tasks_see_a_claim_with_its_owner_until_it_is_released(result: str) -> None:
    ours, theirs = (WorkLock(result, silence_seconds=30.0) for _ in range(2))
    with ours.try_acquire() as is_acquired:
        assert is_acquired
        assert ours.others() == {}
        [(path, owner)] = theirs.others().items()
        assert path.startswith(f"{result}.claim-")
        assert owner.startswith("process ")
        with theirs.try_acquire() as is_also_acquired:
            assert not is_also_acquired
    assert theirs.others() == {}
    assert not tf.io.gfile.glob(f"{result}*")


def test_the_lock_is_released_when_the_work_fails(result: str) -> None:
    with pytest.raises(ZeroDivisionError), WorkLock(result, silence_seconds=30.0).try_acquire():
        _ = 1 / 0
    assert WorkLock(result, silence_seconds=30.0).others() == {}


def test_two_tasks_never_have_the_lock_at_once(result: str) -> None:
    owners: list[int] = []
    most_at_once: list[int] = []
    rounds = 25

    def compete(task: int) -> None:
        lock = WorkLock(result, silence_seconds=30.0)
        for _ in range(rounds):
            with lock.try_acquire() as is_acquired:
                if is_acquired:
                    owners.append(task)
                    most_at_once.append(len(owners))
                    time.sleep(0.001)  # Work: long enough for another task to interfere.
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
    lock = WorkLock(result, silence_seconds=0.3)
    start = time.monotonic()
    assert list(lock.others().values()) == ["process 1 on elsewhere"]
    while lock.others():
        assert time.monotonic() - start < 60.0
        time.sleep(0.01)
    assert time.monotonic() - start >= 0.3
    with lock.try_acquire() as is_acquired:
        assert is_acquired


def test_a_task_that_works_longer_than_the_silence_keeps_the_lock(result: str) -> None:
    with WorkLock(result, silence_seconds=0.6).try_acquire():
        watcher = WorkLock(result, silence_seconds=1.0)
        start = time.monotonic()
        while time.monotonic() - start < 2.0:
            assert watcher.others()
            time.sleep(0.05)


def test_a_host_that_stood_still_does_not_make_a_living_task_a_dead_one(
    result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tf.io.gfile.makedirs(result.rpartition("/")[0])
    claim = f"{result}.claim-other"

    def rewrite(count: int) -> None:
        with tf.io.gfile.GFile(claim, "w") as stream:
            stream.write(f"process 1 on elsewhere,{count}")

    rewrite(1)
    watcher = WorkLock(result, silence_seconds=30.0)
    assert list(watcher.others()) == [claim]
    now[0] += 3600  # nothing ran: neither the watcher nor the owner
    assert list(watcher.others()) == [claim]
    rewrite(2)
    for _ in range(3):
        now[0] += 14
        assert list(watcher.others()) == [claim]
    now[0] += 3
    assert watcher.others() == {}


def test_a_late_rewrite_does_not_restore_a_removed_claim(tmp_path: Path) -> None:
    lock = WorkLock(f"{tmp_path}/1.0.0", silence_seconds=0.0006)
    for _ in range(200):
        with lock.try_acquire():
            time.sleep(0.0005)  # Some rewrites, so that the end often coincides with one.
        assert list(tmp_path.iterdir()) == []


def test_locks_of_other_versions_are_independent(tmp_path: Path) -> None:
    with WorkLock(f"{tmp_path}/set/1.0.0", silence_seconds=30.0).try_acquire():
        assert WorkLock(f"{tmp_path}/set/1.0.1", silence_seconds=30.0).others() == {}


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_silence_must_be_positive(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"`silence_seconds` must be positive. Received: silence"):
        WorkLock("/data/set/1.0.0", silence_seconds=seconds)
