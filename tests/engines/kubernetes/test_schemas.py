"""Schemas of Kubernetes, JobSet and Kubeflow Trainer accept the manifests and reject mistakes.

`make engines` installs them into .venv-engines: kubernetes-validate and kubeflow-trainer-api.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.engines.kubernetes.broken_manifests import BROKEN, HEALTHY, SCHEMA, Broken
from tests.programs import ROOT
from tfscale.launch.engines.kubernetes.yaml_text import yaml_text

pytestmark = pytest.mark.engines

PYTHON = ROOT / ".venv-engines" / "bin" / "python"
PROGRAM = ROOT / "tests" / "engines" / "kubernetes" / "schemas.py"


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the schemas find in all manifests, by the name of each."""
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} does not exist: run `make engines`")
    manifests = HEALTHY | {broken.mistake: broken.documents() for broken in BROKEN}
    folder = tmp_path_factory.mktemp("manifests")
    paths = {name: folder / f"{number}.yaml" for number, name in enumerate(manifests)}
    for name, path in paths.items():
        path.write_text(yaml_text(*manifests[name]))
    command = [str(PYTHON), str(PROGRAM), *map(str, paths.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    return {
        name: "\n".join(line for line in lines if line.startswith(f"{path}: "))
        for name, path in paths.items()
    }


@pytest.mark.parametrize("name", HEALTHY)
def test_the_schemas_accept_what_the_engine_writes(faults: dict[str, str], name: str) -> None:
    assert faults[name] == ""


@pytest.mark.parametrize(
    "broken", [pytest.param(b, id=b.mistake) for b in BROKEN if b.found_by == SCHEMA]
)
def test_a_mistake_is_rejected_by_its_schema(faults: dict[str, str], broken: Broken) -> None:
    assert faults[broken.mistake]


def test_a_schema_knows_little_of_what_the_rules_reject(faults: dict[str, str]) -> None:
    """Which is why there are rules. A schema that learns more makes this fail, and a rule go."""
    found = [b.mistake for b in BROKEN if b.found_by != SCHEMA and faults[b.mistake]]
    assert found == []
