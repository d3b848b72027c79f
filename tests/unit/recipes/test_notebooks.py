"""The notebooks, run from top to bottom in a kernel, as a reader would."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tests.programs import ROOT

FOLDER = ROOT / "recipes" / "examples"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def printed(name: str) -> str:
    """Runs a notebook, and returns all that its cells print to standard output."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    folder = {"metadata": {"path": str(ROOT)}}
    # By files: ports that are chosen before the kernel binds them may be taken by then.
    config = Config({"KernelManager": {"transport": "ipc"}})
    options = {"timeout": 300, "startup_timeout": 300, "resources": folder, "config": config}
    NotebookClient(notebook, **options).execute()
    return "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    )


def difference(text: str) -> float:
    found = re.search(r"largest difference between the weights: (\S+)", text)
    assert found, text
    return float(found[1])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with tempfile.TemporaryDirectory(prefix="jupyter-") as folder:  # names of sockets are short
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", folder)
        yield


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_stores_no_outputs(name: str) -> None:
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []


def test_two_replicas_end_with_the_weights_of_one_device() -> None:
    text = printed("first_steps.ipynb")
    losses = re.findall(r"(\d\.\d{5})\d on two replicas, (\d\.\d{5})\d on one device", text)
    assert len(losses) == 5
    assert [float(two) for two, _ in losses] == pytest.approx(
        [float(one) for _, one in losses], abs=1e-5
    )
    assert difference(text) < 1e-5


def test_interrupted_training_resumes_at_the_last_save_and_ends_as_if_whole() -> None:
    text = printed("resume.ipynb")
    assert "interrupted in epoch 2" in text
    assert "resumed at Position(epoch=2, step=4, batches=24)" in text
    assert difference(text) < 1e-5


def test_every_notebook_is_run_by_a_test_above() -> None:
    assert NOTEBOOKS == ["first_steps.ipynb", "resume.ipynb"]
