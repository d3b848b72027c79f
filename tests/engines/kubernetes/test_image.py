"""The commands of the Dockerfile, in a new environment: there is no Docker daemon here.

What an image would have and this machine has not, its base system and its root, is not shown.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.programs import ROOT

pytestmark = pytest.mark.engines

DOCKERFILE = ROOT / "recipes" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the Dockerfile, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_the_dockerfile_has_only_known_instructions_and_stages() -> None:
    found = instructions()
    known = {"ARG", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR"}
    assert {name for name, _ in found} <= known
    stages = [text for name, text in found if name == "FROM"]
    assert stages == ["python:${PYTHON}-slim AS wheel", "python:${PYTHON}-slim"]
    assert dict(found)["USER"] == "1000:1000"


def test_its_commands_make_an_environment_in_which_the_pods_programs_run(tmp_path: Path) -> None:
    (build, install) = [text for name, text in instructions() if name == "RUN"]
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    copied = ["cp", "--parents", *filter(None, files), str(source)]
    subprocess.run(copied, cwd=ROOT, check=True, timeout=60)
    venv.create(tmp_path / "image", with_pip=True)
    # What the wheel requires is not downloaded again: the packages of this environment are there.
    packages = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "image")})
    (Path(packages) / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {
        "PATH": f"{tmp_path}/image/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "EXTRAS": next(t.partition("=")[2] for n, t in instructions() if t.startswith("EXTRAS")),
    }

    def run(command: str, folder: Path) -> str:
        script = command.replace("/wheels", shlex.quote(str(wheels)).strip("'"))
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run(build, source)
    assert len(list(wheels.glob("tfscale-*.whl"))) == 1
    run(install, tmp_path)
    where = run("python -c 'import tfscale; print(tfscale.__file__)'", tmp_path)
    assert where.startswith(str(tmp_path / "image"))
    output = "python -m tfscale.launch.engines.kubernetes.pod_output logs/a.log -- "
    program = "python -m recipes.linear_regression --train_epochs=1"
    run(output + program, tmp_path)
    assert (tmp_path / "logs" / "a.log").read_text()
    assert sys.prefix not in where
