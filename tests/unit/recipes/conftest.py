"""Recipes in separate processes, and prepared datasets for them."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import recipes.images.sets  # noqa: F401  (registers the name "digits")
import tests.unit.recipes.stripes_dataset_builder  # noqa: F401  (registers the name "stripes")
from tests.once import made_once
from tests.prefork import Prefork
from tests.programs import completed, forked
from tfscale.data import tfds, tfds_preparation

_DEADLINE = 400.0
# What every recipe imports, with TensorFlow.
_IMPORTED = (
    "recipes.common_flags",
    "recipes.entry_point",
    "recipes.results",
    "recipes.images.sets",
    "tfscale.data.pipeline",
    "tests.compared_symbols",
)


def is_start_up(line: str) -> bool:
    """Of TensorFlow's C++, whatever the level of logging; or of ours, saying what was chosen."""
    lines_of_tensorflow = ("InitializeLog()", "oneDNN", "grpc_server_lib")  # the last one in 2.20
    return line.startswith("tfscale: ") or any(part in line for part in lines_of_tensorflow)


@dataclasses.dataclass(frozen=True)
class Run:
    """How a recipe ended: its exit status, its standard output and its standard error."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaints(self) -> list[str]:
        """The lines of standard error, without those of every start."""
        return [line for line in self.stderr.splitlines() if not is_start_up(line)]


@pytest.fixture(scope="session")
def run_recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """Runs `python -m MODULE FLAGS...` and returns how it ended."""
    folder = tmp_path_factory.mktemp("runs")
    stdout, stderr = folder / "stdout", folder / "stderr"
    with contextlib.closing(Prefork(*_IMPORTED)) as prefork:

        def run(
            *flags: str,
            module: str = "recipes.image_classification",
            seconds: float = _DEADLINE,
            **env: str,
        ) -> Run:
            for path in (stdout, stderr):
                path.write_text("")
            status = prefork.run(
                module, *flags, stdout=stdout, stderr=stderr, cwd=folder, seconds=seconds, **env
            )
            return Run(status, stdout.read_text("utf-8"), stderr.read_text("utf-8"))

        yield run


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the prepared digits and stripes."""
    return str(made_once(tmp_path_factory, "prepared", _prepare))


def _prepare(folder: Path) -> None:
    builders: list[Any] = [tfds.find_builder("digits", data_dir=str(folder))]
    for config in ("stripes", "train_only", "unlabelled", "any_size", "float"):
        builders.append(tfds.find_builder(f"stripes/{config}", data_dir=str(folder)))
    for builder in builders:
        tfds_preparation.prepare(builder, is_preparer=True)


def launch_two_workers(flags: list[str]) -> list[str]:
    recipe = [sys.executable, *forked("-m", "recipes.image_classification", *flags)]
    done = completed("-m", "tfscale", "launch", "--num_workers=2", "--", *recipe, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def weights(model_dir: Path) -> np.ndarray[Any, Any]:
    """All trained weights in one vector, read without Keras."""
    arrays: dict[str, Any] = {}
    with (
        zipfile.ZipFile(model_dir / "model.keras") as archive,
        archive.open("model.weights.h5") as stream,
        h5py.File(stream) as file,
    ):

        def visit(name: str, part: Any) -> None:
            if isinstance(part, h5py.Dataset) and name.startswith("layers/"):
                arrays[name] = part[()]

        file.visititems(visit)
    assert len(arrays) == 12  # four convolutions and two dense layers: kernel and bias
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
