"""Doctors of several tasks in the threads of one process; in processes: `test_planted_faults`."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from strategies import Cluster
from tests.doctor_faults import Doctor, peers_flags, reports
from tests.ports import free_ports
from tfscale.doctor.peers.meeting import Meeting

SECONDS = 60.0
VERSIONS = {"python": "3.12.1"}


def clusters(count: int) -> list[Cluster]:
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(count))
    return [Cluster({"worker": addresses}, "worker", index) for index in range(count)]


def test_three_tasks_meet_and_share_what_they_have_measured() -> None:
    def attend(cluster: Cluster) -> tuple[list[float], bool, list[bool]]:
        with Meeting(cluster, seconds=SECONDS, versions=VERSIONS) as meeting:
            meeting.connect()
            meeting.publish({"speed": float(cluster.task_index)})
            table = meeting.collect()
            came = [meeting.gather("pause")]
            meeting.pause()  # and TensorFlow would listen here
            meeting.resume()
            came.append(meeting.gather("end"))
            speeds = [facts["figures"]["speed"] for facts in table.values() if facts]
            return speeds, meeting.is_whole, came

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(attend, clusters(3)))
    assert found == [([0.0, 1.0, 2.0], True, [True, True])] * 3


def test_a_task_that_ends_early_does_not_keep_the_others() -> None:
    first, second = clusters(2)
    met = threading.Event()

    def leave() -> None:
        with Meeting(second, seconds=SECONDS, versions=VERSIONS) as meeting:
            meeting.connect()
            met.wait(SECONDS)

    thread = threading.Thread(target=leave)
    thread.start()
    with Meeting(first, seconds=SECONDS, versions=VERSIONS) as meeting:
        meeting.connect()
        met.set()
        thread.join()
        begin = time.monotonic()
        meeting.publish(None)
        assert meeting.collect()["worker 1"] is None
        assert time.monotonic() - begin < SECONDS  # it does not wait for its deadline
        assert not meeting.is_whole


def test_an_evaluator_outside_of_the_cluster_reaches_the_others() -> None:
    (port,) = free_ports(1)
    jobs = {"worker": [f"127.0.0.1:{port}"]}
    config = {"cluster": jobs, "task": {"type": "evaluator", "index": 0}}
    evaluator = Doctor(peers_flags(SECONDS), variables={"TF_CONFIG": json.dumps(config)})
    # A worker that knows of no evaluator would not wait for it; this one does.
    cluster = Cluster({"worker": (f"127.0.0.1:{port}",)}, "worker", 0)
    with Meeting(cluster, seconds=SECONDS, versions={}) as meeting:
        meeting.connect()
        meeting.publish(None)
        ((_, report),) = reports([evaluator])
    assert report["peers"]["tasks"]["evaluator 0"]["worker 0"]["reached"]
    # The worker was given no versions; nothing else is wrong.
    assert report["problems"]
    assert all("not installed on worker 0" in problem for problem in report["problems"])
