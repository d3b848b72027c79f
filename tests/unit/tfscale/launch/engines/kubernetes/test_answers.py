"""Where a job stands, from what kubectl prints.

The answers are made by hand after the types of the API: no cluster has given them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tfscale.launch.engines import JobStatus, State
from tfscale.launch.engines.kubernetes.answers import job_status


def job_set(*conditions: dict[str, str], restarts: int = 0, **metadata: str) -> dict[str, Any]:
    status = {"conditions": list(conditions), "restarts": restarts}
    return {"kind": "JobSet", "metadata": {"name": "digits", **metadata}, "status": status}


def condition(kind: str, message: str = "", status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "message": message}


def pod(index: int, phase: str, *, role: str = "worker", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"digits-{role}-0-{index}-x7k2p",
            "labels": {
                "tfscale-role": role,
                "batch.kubernetes.io/job-completion-index": str(index),
            },
        },
        "spec": {"nodeName": f"node-{index}"} if phase != "Pending" else {},
        "status": {"phase": phase, **status},
    }


def ended(code: int, finished: str, message: str = "", reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "finishedAt": finished, "message": message, "reason": reason}
    return {"containerStatuses": [{"state": {"terminated": terminated}}]}


EXIT_REASON = json.dumps({"why": 'ValueError: a "row"', "is_own": True, "traceback": "x" * 9000})
UNSCHEDULABLE: dict[str, Any] = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "message": "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
        }
    ]
}
NO_IMAGE: dict[str, Any] = {
    "containerStatuses": [
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling x"}}}
    ]
}


@pytest.mark.parametrize(
    ("job", "pods", "status"),
    [
        pytest.param(
            job_set(condition("Completed")),
            [pod(0, "Succeeded")],
            JobStatus(State.SUCCEEDED, "", 0, 0),
            id="completed",
        ),
        pytest.param(
            job_set(condition("Failed", "jobset failed due to one or more job failures")),
            [
                pod(0, "Failed", **ended(1, "2026-11-30T00:00:09Z", "Socket closed")),
                pod(1, "Failed", **ended(3, "2026-11-30T00:00:05Z", EXIT_REASON[:4096])),
            ],
            JobStatus(
                State.FAILED,
                "jobset failed due to one or more job failures; worker-1 failed first with exit "
                'status 3: ValueError: a "row"',
                3,
                0,
            ),
            id="failed, with the exit reason that Kubernetes has cut",
        ),
        pytest.param(
            job_set(condition("Failed", "reached max"), restarts=2),
            [pod(0, "Failed", role="chief", **ended(137, "1", "last line\n\n", "OOMKilled"))],
            JobStatus(
                State.FAILED,
                "reached max; chief failed first with exit status 137 (out of memory): last line",
                137,
                2,
            ),
            id="out of memory",
        ),
        pytest.param(
            job_set(condition("Suspended", "jobset is suspended")),
            [],
            JobStatus(State.PENDING, "suspended: jobset is suspended", None, 0),
            id="a queue holds it",
        ),
        pytest.param(
            job_set(condition("StartupPolicyCompleted"), condition("Failed", "", "False")),
            [pod(0, "Running"), pod(1, "Running")],
            JobStatus(State.RUNNING, "2 of 2 pods run, on node-0, node-1", None, 0),
            id="running",
        ),
        pytest.param(
            job_set(),
            [pod(0, "Running"), pod(1, "Pending", **UNSCHEDULABLE)],
            JobStatus(
                State.RUNNING,
                "1 of 2 pods run, on node-0; worker-1 waits: 0/4 nodes are available: 4 "
                "Insufficient nvidia.com/gpu.",
                None,
                0,
            ),
            id="one does not fit",
        ),
        pytest.param(
            job_set(),
            [pod(0, "Pending", **NO_IMAGE)],
            JobStatus(
                State.PENDING, "worker-0 waits: ImagePullBackOff: Back-off pulling x", None, 0
            ),
            id="no image",
        ),
        pytest.param(
            job_set(restarts=1),
            [],
            JobStatus(State.REQUEUED, "no pod runs yet", None, 1),
            id="between two starts",
        ),
        pytest.param(
            job_set(deletionTimestamp="2026-11-30T00:00:00Z"),
            [pod(0, "Running")],
            JobStatus(State.STOPPED, "its pods are ending", None, 0),
            id="deleted",
        ),
        pytest.param(
            {"kind": "Job", "metadata": {"name": "digits"}},
            [],
            JobStatus(State.PENDING, "no pod runs yet", None, 0),
            id="a controller that has not seen it",
        ),
    ],
)
def test_a_job_stands_where_kubernetes_says(
    job: dict[str, Any], pods: list[dict[str, Any]], status: JobStatus
) -> None:
    assert job_status(job, pods) == status
