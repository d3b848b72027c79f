"""The cluster of a TF_CONFIG, and an error with a cure for an impossible one."""

from __future__ import annotations

import copy
import json
import pickle
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from strategies.cluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[4]
TWO_WORKERS = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}


def tf_config(cluster: object, task: object) -> str:
    return json.dumps({"cluster": cluster, "task": task})


def random_cluster(seed: int) -> Cluster:
    """Any shape the rules allow, addresses in no order."""
    draw = random.Random(seed)
    sizes = {
        "chief": draw.randint(0, 1),
        "worker": draw.randint(1, 5),
        "ps": draw.randint(0, 3),
        "evaluator": draw.randint(0, 2),
    }
    jobs = [job for job, size in sizes.items() if size]
    draw.shuffle(jobs)
    ports = draw.sample(range(1, 65536), sum(sizes.values()))
    hosts = ["localhost", "10.0.0.1", "n10", "a-b.c_d.example", "[fd00::1]"]
    addresses = {
        job: tuple(f"{draw.choice(hosts)}:{ports.pop()}" for _ in range(sizes[job])) for job in jobs
    }
    task_type = draw.choice(jobs)
    return Cluster(addresses, task_type, draw.randrange(sizes[task_type]), source="drawn")


@pytest.mark.parametrize("seed", range(50))
def test_tf_config_text_reads_back_as_an_equal_cluster(seed: int) -> None:
    cluster = random_cluster(seed)
    text = cluster.to_tf_config()
    again = Cluster.from_tf_config(text)
    assert again == cluster
    assert again.to_tf_config() == text
    assert pickle.loads(pickle.dumps(cluster)) == copy.deepcopy(cluster) == cluster


@pytest.mark.parametrize("seed", range(50))
def test_training_tasks_are_numbered_once_each_with_one_chief_at_zero(seed: int) -> None:
    cluster = random_cluster(seed)
    training = [
        replace(cluster, task_type=job, task_index=index)
        for job in ("chief", "worker")
        for index in range(len(cluster.jobs.get(job, ())))
    ]
    assert [task.worker_index for task in training] == list(range(cluster.num_workers))
    assert [task.is_chief for task in training] == [True] + [False] * (cluster.num_workers - 1)


@pytest.mark.parametrize(
    ("jobs", "task", "workers", "servers", "chief", "worker_index", "address"),
    [
        pytest.param({"worker": ["a:1"]}, ("worker", 0), 1, 0, True, 0, "a:1", id="single"),
        pytest.param(
            {"worker": ["a:1", "b:1"]}, ("worker", 1), 2, 0, False, 1, "b:1", id="no chief job"
        ),
        pytest.param(
            {"worker": ["a:1", "b:1"], "chief": ["c:1"]},
            ("worker", 0),
            3,
            0,
            False,
            1,
            "a:1",
            id="the chief goes before worker 0, wherever it is listed",
        ),
        pytest.param(
            {"chief": ["c:1"], "worker": ["a:1"], "ps": ["p:1", "p:2"]},
            ("chief", 0),
            2,
            2,
            True,
            0,
            "c:1",
            id="parameter servers do not train",
        ),
    ],
)
def test_counts_and_indices(
    jobs: dict[str, Any],
    task: tuple[str, int],
    workers: int,
    servers: int,
    chief: bool,
    worker_index: int,
    address: str,
) -> None:
    cluster = Cluster(jobs, *task)
    assert cluster.num_workers == workers
    assert cluster.num_parameter_servers == servers
    assert cluster.is_chief is chief
    assert cluster.worker_index == worker_index
    assert cluster.address == address


@pytest.mark.parametrize("task", [("ps", 0), ("evaluator", 0)])
def test_a_task_that_does_not_train_is_not_the_chief_and_has_no_worker_index(
    task: tuple[str, int],
) -> None:
    cluster = Cluster({"worker": ("a:1",), "ps": ("b:1",)}, *task)
    assert not cluster.is_chief
    with pytest.raises(ValueError, match=r"`task_type` must be .*Only these tasks read"):
        _ = cluster.worker_index


def test_an_evaluator_outside_of_the_jobs_has_no_address() -> None:
    cluster = Cluster.from_tf_config(tf_config(TWO_WORKERS, {"type": "evaluator", "index": 3}))
    assert (cluster.task_index, cluster.num_workers) == (3, 2)
    with pytest.raises(ValueError, match=r"Add \"evaluator\" to the jobs"):
        _ = cluster.address


IMPOSSIBLE = [
    pytest.param("{", r"`TF_CONFIG` must be JSON .*unset it", id="unreadable JSON"),
    pytest.param("", r"`TF_CONFIG` must be JSON", id="empty: left to the caller"),
    pytest.param("null", r"`TF_CONFIG` must be a JSON object", id="JSON, but no object"),
    pytest.param('{"task": {}}', r"with the key 'cluster'", id="missing cluster"),
    pytest.param(json.dumps({"cluster": TWO_WORKERS}), r"with the key 'task'", id="missing task"),
    pytest.param(tf_config(TWO_WORKERS, {"index": 0}), r"with the key 'type'", id="missing type"),
    pytest.param(
        tf_config(TWO_WORKERS, {"type": "worker"}), r"with the key 'index'", id="missing index"
    ),
    pytest.param(tf_config(TWO_WORKERS, "worker"), r"`TF_CONFIG task` must be", id="task is text"),
    pytest.param(
        tf_config(TWO_WORKERS, {"type": "ps", "index": 0}),
        r"`task_type` must be .*: worker, evaluator\. .*\(from TF_CONFIG\)",
        id="a job that this cluster does not have",
    ),
    pytest.param(
        tf_config({"master": ["a:1"]}, {"type": "master", "index": 0}),
        r"`jobs` must use only the names chief, worker, ps, evaluator\. Received: job='master'",
        id="TensorFlow 1's name of the chief",
    ),
    *[
        pytest.param(
            tf_config(TWO_WORKERS, {"type": "worker", "index": index}),
            r"`task_index` must be from 0 to 1 .*\(from TF_CONFIG\)",
            id=f"index {index} out of range",
        )
        for index in (2, -1)
    ],
    pytest.param(
        tf_config(TWO_WORKERS, {"type": "evaluator", "index": -1}),
        r"`task_index` must be 0 or more",
        id="unlisted evaluator with a negative index",
    ),
    *[
        pytest.param(
            tf_config(TWO_WORKERS, {"type": "worker", "index": index}),
            r"`task_index` must be an integer",
            id=f"index {index!r} is no integer",
        )
        for index in ("0", 0.0, True, None)
    ],
    pytest.param(
        tf_config({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}),
        r"worker 0 and worker 1 share one.*another port",
        id="duplicate address in one job",
    ),
    pytest.param(
        tf_config({"worker": ["a:1"], "ps": ["A:1"]}, {"type": "worker", "index": 0}),
        r"worker 0 and ps 0 share one",
        id="duplicate address across jobs, host names have no case",
    ),
    pytest.param(
        tf_config({"chief": ["a:1", "b:1"]}, {"type": "chief", "index": 0}),
        r"`jobs\['chief'\]` must have one task",
        id="two chiefs",
    ),
    pytest.param(
        tf_config({}, {"type": "worker", "index": 0}), r"at least one job", id="no jobs"
    ),
    pytest.param(
        tf_config({"worker": []}, {"type": "worker", "index": 0}),
        r"at least one address",
        id="an empty job",
    ),
    pytest.param(
        tf_config({"worker": "a:1"}, {"type": "worker", "index": 0}),
        r"`jobs\['worker'\]` must be a list",
        id="one text for a list: its letters are no addresses",
    ),
    *[
        pytest.param(
            tf_config({"worker": [address]}, {"type": "worker", "index": 0}),
            r"\"host:port\" with a port from 1 to 65535\. Received: address=",
            id=f"bad address {address!r}",
        )
        for address in (
            "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:x", "a:01", "a: 1", "grpc://a:1",
            "fd00::1:2222", "", 2222, "a:٢",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), IMPOSSIBLE)
def test_an_impossible_tf_config_is_refused_with_its_cure(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster.from_tf_config(text)


def test_a_cluster_does_not_change_when_the_callers_mapping_does() -> None:
    jobs = {"worker": ["a:1"]}
    cluster = Cluster(jobs, "worker", 0)  # type: ignore[arg-type]
    jobs["worker"].append("b:1")
    assert cluster.num_workers == 1
    with pytest.raises(TypeError):
        cluster.jobs["worker"] = ()  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        cluster.task_index = 1  # type: ignore[misc]


def test_the_source_of_a_cluster_is_not_compared() -> None:
    built = Cluster({"worker": ("a:1",)}, "worker", 0)
    read = Cluster.from_tf_config(built.to_tf_config())
    assert (built.source, read.source) == ("", "TF_CONFIG")
    assert built == read
    assert hash(built) == hash(read)


def test_importing_a_cluster_and_its_environments_loads_no_tensorflow() -> None:
    program = (
        "import sys, strategies.cluster.cluster, strategies.cluster.environments\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'keras', 'tensorflow', 'numpy'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "[]", "")
