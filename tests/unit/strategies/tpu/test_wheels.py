"""A pair of wheels that would abort the process is found by metadata only: folders on sys.path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
# `tensorflow` here is a module that ends the process, as the real one does with the wrong libtpu.
ASK = """
import strategies
try:
    strategies.tpu_strategy
except ImportError as error:
    print(error)
"""


def child(folder: Path, versions: dict[str, str], **environment: str) -> tuple[int, str]:
    for name, version in versions.items():
        place = folder / f"{name}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    (folder / "tensorflow.py").write_text("import os\nos.abort()\n")
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


ABORTED = -6


@pytest.mark.parametrize("libtpu", ["0.0.52", "0.0.42.1", "0.0.31", "0.0.13"])
def test_a_pair_that_aborts_is_refused_with_the_pair_that_does_not(
    tmp_path: Path, libtpu: str
) -> None:
    status, output = child(tmp_path, {"tensorflow_tpu": "2.20.0", "libtpu": libtpu})
    assert status == 0
    assert "with tensorflow-tpu 2.20.0: otherwise `import tensorflow` aborts" in output
    assert f"Received: libtpu {libtpu}." in output
    assert 'pip install "tensorflow-tpu==2.20.0" "libtpu==0.0.30"' in output


@pytest.mark.parametrize(
    ("versions", "environment"),
    [
        pytest.param({"tensorflow_tpu": "2.20.0", "libtpu": "0.0.30"}, {}, id="a pair that works"),
        pytest.param({"libtpu": "0.0.52"}, {}, id="no tensorflow-tpu"),
        pytest.param(
            {"tensorflow_tpu": "2.20.0", "libtpu": "0.0.52"},
            {"TPU_LOAD_LIBRARY": "0"},
            id="libtpu is not loaded",
        ),
    ],
)
def test_any_other_host_imports_tensorflow(
    tmp_path: Path, versions: dict[str, str], environment: dict[str, str]
) -> None:
    status, output = child(tmp_path, versions, **environment)
    assert (status, output) == (ABORTED, "")
