"""The real kubectl takes the commands of the engine. There is no cluster for it to ask.

Without a cluster kubectl reads its arguments first, and then fails to connect. A flag that it does
not know is another error. Its own reader of YAML reads the manifests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.engines.kubernetes.broken_manifests import HEALTHY
from tfscale.launch.engines import EngineFailed, JobRequest
from tfscale.launch.engines.job_record import JobRecord, new_record
from tfscale.launch.engines.kubernetes import Kubernetes
from tfscale.launch.engines.kubernetes.yaml_text import yaml_text

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH"),
]

NO_CLUSTER = r"connection to the server|connection refused|connect: |no configuration|localhost"


@pytest.fixture(params=["jobset", "job", "trainjob"])
def job(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> JobRecord:
    config = tmp_path / "config"
    server = {"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "east", "context": {"cluster": "none", "user": ""}}
    config.write_text(
        yaml_text(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [server],
                "contexts": [context],
                "users": [],
                "current-context": "east",
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    options = {"image": "digits:1", "kind": request.param, "namespace": "ml", "context": "east"}
    asked = JobRequest(("python", "train.py"), "digits", 2, options=options)
    made = new_record(asked, "kubernetes", tmp_path)
    made.folder.mkdir()
    submission = Kubernetes().submission(asked, made)
    (made.folder / "manifest.yaml").write_text(submission.files["manifest.yaml"])
    return made


def said_by(command: tuple[str, ...], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    return done.stderr


def test_kubectl_takes_every_command_and_misses_only_the_cluster(job: JobRecord) -> None:
    engine = Kubernetes()
    asked = JobRequest(job.command, "digits", 2, options=job.options)
    submission = engine.submission(asked, job)
    commands = [*submission.commands, *submission.undo]
    logs = next(iter(engine.logs(job).values()))
    assert isinstance(logs, tuple)
    commands += [logs, (*logs, "--follow")]
    for command in commands:
        said = said_by(command, job.folder)
        assert re.search(NO_CLUSTER, said), (command, said)
        assert "unknown flag" not in said
    for ask in (engine.status, engine.stop, engine.ask_for_stacks):
        with pytest.raises(EngineFailed, match=NO_CLUSTER):
            ask(job)


@pytest.mark.parametrize("name", HEALTHY)
def test_kubectl_reads_the_manifest_as_it_was_meant(tmp_path: Path, name: str) -> None:
    for number, document in enumerate(HEALTHY[name]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml_text(document))
        (tmp_path / "kustomization.yaml").write_text(f"resources: [{path.name}]\n")
        printed = subprocess.check_output(["kubectl", "kustomize", str(tmp_path)], text=True)
        assert yaml.safe_load(printed) == document
