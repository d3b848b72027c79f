"""Which commands the engine runs, and what it makes of their answers.

kubectl is a stub here that records its arguments and prints prepared answers: nothing is asked of a
cluster. `tests/engines/kubernetes/test_kubectl.py` shows that the real kubectl takes the arguments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.programs import completed
from tfscale.launch.engines import EngineFailed, JobRecord, JobRequest, State, submit
from tfscale.launch.engines.kubernetes import Kubernetes

STUB = """#!/bin/sh
# A recording stub, not kubectl.
printf '%s\\n' "$*" >> "{folder}/asked"
for word; do
    case "$word" in create | get | delete | exec | logs) action=$word; break ;; esac
done
case "$*" in *" pods "*) action=pods ;; esac
if [ -e "{folder}/$action.error" ]; then cat "{folder}/$action.error" >&2; exit 1; fi
[ ! -e "{folder}/$action" ] || cat "{folder}/$action"
"""

Asked = Callable[[], list[str]]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the stub: a file `create` is its answer to `kubectl create`, and so on."""
    folder = tmp_path / "kubectl"
    folder.mkdir()
    stub = folder / "kubectl"
    stub.write_text(STUB.format(folder=folder))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (folder / "create").write_text("jobset.jobset.x-k8s.io/the-job\n")
    return folder


def submitted(tmp_path: Path, kind: str = "jobset", **changed: Any) -> JobRecord:
    options = {"image": "digits:1", "kind": kind, "namespace": "ml", "context": "east"}
    request = JobRequest(("python3.12", "train.py"), "digits", 2, options=options, **changed)
    return submit(Kubernetes(), request, tmp_path / "jobs")


def asked(answers: Path) -> list[str]:
    lines = (answers / "asked").read_text().splitlines()
    (answers / "asked").unlink()
    prefix = "--context=east --namespace=ml "
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix).removeprefix("--request-timeout=30s ") for line in lines]


def test_a_job_is_created_from_the_file_in_its_folder(tmp_path: Path, answers: Path) -> None:
    job = submitted(tmp_path)
    assert asked(answers) == ["create --filename=manifest.yaml --output=name"]
    assert job.engine_id == "jobset.jobset.x-k8s.io/the-job"
    assert (job.folder / "manifest.yaml").read_text().startswith("apiVersion: jobset.x-k8s.io/")
    assert not job.log_dir.exists()  # a folder of this host is not one of the pods


def test_what_was_created_before_an_error_is_deleted(tmp_path: Path, answers: Path) -> None:
    (answers / "create.error").write_text('no matches for kind "TrainJob" in version\n')
    with pytest.raises(EngineFailed, match=r"no matches for kind \"TrainJob\".*Nothing was"):
        submitted(tmp_path, "trainjob")
    assert asked(answers)[1:] == ["delete --filename=manifest.yaml --ignore-not-found --wait=false"]
    assert not list((tmp_path / "jobs").glob("*"))


@pytest.mark.parametrize(
    ("kind", "resource", "selector"),
    [
        ("jobset", "jobsets.jobset.x-k8s.io", "jobset.sigs.k8s.io/jobset-name"),
        ("job", "jobs.batch", "batch.kubernetes.io/job-name"),
        ("trainjob", "trainjobs.trainer.kubeflow.org", "jobset.sigs.k8s.io/jobset-name"),
    ],
)
def test_the_status_is_that_of_the_resource_and_its_pods(
    tmp_path: Path, answers: Path, kind: str, resource: str, selector: str
) -> None:
    job = submitted(tmp_path, kind)
    asked(answers)
    kinds = {"jobset": "JobSet", "job": "Job", "trainjob": "TrainJob"}
    answer = {"kind": kinds[kind], "metadata": {"name": job.id}, "status": {}}
    (answers / "get").write_text(json.dumps(answer))
    running = {
        "metadata": {"labels": {}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running"},
    }
    (answers / "pods").write_text(json.dumps({"kind": "List", "items": [running]}))
    status = Kubernetes().status(job)
    assert (status.state, status.detail) == (State.RUNNING, "1 of 1 pods run, on n1")
    assert asked(answers) == [
        f"get {resource}/{job.id} --ignore-not-found --output=json",
        f"get pods --selector={selector}={job.id} --output=json",
    ]


def test_a_stopped_job_is_deleted_with_its_grace_and_remembered(
    tmp_path: Path, answers: Path
) -> None:
    job = submitted(tmp_path, "trainjob", grace_seconds=40.0)
    assert Kubernetes().status(job).state is State.UNKNOWN  # kubectl prints nothing
    asked(answers)
    Kubernetes().stop(job)
    assert asked(answers) == [
        f"delete trainjobs.trainer.kubeflow.org/{job.id} "
        f"trainingruntimes.trainer.kubeflow.org/{job.id} --ignore-not-found --cascade=foreground "
        "--timeout=70s"
    ]
    assert Kubernetes().status(job).state is State.STOPPED


def test_the_output_of_each_task_is_that_of_its_pod(tmp_path: Path, answers: Path) -> None:
    job = submitted(tmp_path, num_ps=1)
    name = "jobset.sigs.k8s.io/jobset-name"
    role = "jobset.sigs.k8s.io/replicatedjob-name"
    index = "batch.kubernetes.io/job-completion-index"
    target = ("kubectl", "--context=east", "--namespace=ml", "logs")
    commands = Kubernetes().logs(job)
    assert list(commands) == ["chief", "worker-0", "worker-1", "ps-0"]
    for task, labels in {
        "chief": f"{name}={job.id},{role}=chief,{index}=0",
        "worker-1": f"{name}={job.id},{role}=worker,{index}=1",
    }.items():
        selector = f"--selector={labels}"
        assert commands[task] == (*target, selector, "--container=main", "--tail=-1")


def test_the_pods_of_data_workers_and_of_a_train_job_have_other_names(
    tmp_path: Path, answers: Path
) -> None:
    data = str(Kubernetes().logs(submitted(tmp_path, num_data_workers=1))["data_worker-0"])
    assert "replicatedjob-name=data," in data
    worker = str(Kubernetes().logs(submitted(tmp_path, "trainjob"))["worker-0"])
    assert "replicatedjob-name=node," in worker
    assert "--container=node" in worker


def test_stacks_are_asked_for_in_every_running_pod(tmp_path: Path, answers: Path) -> None:
    job = submitted(tmp_path)
    asked(answers)
    (answers / "pods").write_text("pod/a\npod/b\n")
    (answers / "exec").write_text("asked 1 of 2\n")
    assert Kubernetes().ask_for_stacks(job) == "asked 2 process(es) in 2 pod(s)"
    listed, *executed = asked(answers)
    assert listed.endswith("--field-selector=status.phase=Running --output=name")
    program = f"python3.12 -m tfscale.launch.engines.stack_request {job.id}"
    assert sorted(executed) == [f"exec pod/{p} --container=main -- {program}" for p in "ab"]


def test_stacks_of_a_job_without_pods_are_an_error(tmp_path: Path, answers: Path) -> None:
    job = submitted(tmp_path)
    with pytest.raises(EngineFailed, match=rf"no pod of {job.id} runs. `tfscale jobs status"):
        Kubernetes().ask_for_stacks(job)


def test_a_cluster_that_does_not_answer_is_an_error_with_its_cure(
    tmp_path: Path, answers: Path
) -> None:
    job = submitted(tmp_path)
    (answers / "get.error").write_text("The connection to the server was refused\n")
    with pytest.raises(EngineFailed, match=r"was refused.*`kubectl cluster-info` shows"):
        Kubernetes().status(job)
    (answers / "get.error").unlink()
    (answers / "get").write_text("Unable to parse\n")
    with pytest.raises(EngineFailed, match=r"kubectl answered no JSON: 'Unable"):
        Kubernetes().status(job)


def test_without_kubectl_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineFailed, match=r"'kubectl' is not on PATH"):
        submitted(tmp_path)


def test_the_commands_submit_and_find_the_job(tmp_path: Path, answers: Path) -> None:
    jobs = {"TFSCALE_JOBS_DIR": str(tmp_path / "jobs"), "PATH": os.environ["PATH"]}
    flags = ("--engine=kubernetes", "--num_workers=2", "--option=image=digits:1")
    command = ("--log_dir=/shared/logs", "--option=claim=training", "--", "python", "train.py")
    done = completed("-m", "tfscale", "launch", *flags, *command, timeout=120, **jobs)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "jobs").iterdir()
    assert done.stdout == f"{folder.name}\n"
    assert "submitted to kubernetes as jobset.jobset.x-k8s.io/the-job. Watch it: " in done.stderr
    assert not Path("/shared/logs").exists()
    (answers / "get").write_text(
        json.dumps({"kind": "JobSet", "metadata": {"name": folder.name}, "status": {}})
    )
    (answers / "pods").write_text(json.dumps({"items": []}))
    done = completed("-m", "tfscale", "jobs", "status", folder.name, timeout=120, **jobs)
    assert "no pod runs yet" in done.stdout
