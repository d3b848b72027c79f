"""The finished stages of a chain on disk, so that a program that was killed goes on after them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from strategies.extension import all_layers
from tfscale.files import whole_files
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import value_of
from tfscale.shrink.chain.chain import Chain
from tfscale.shrink.chain.costs import KERAS, StageCost, file_of_model

_CHAIN_FILE = "chain.json"


class FinishedStages:
    """Models after stages, each with its cost, in a folder; without a folder there are none.

    Which stages are finished is read once, at the beginning: all workers find the same ones,
    because none finishes a stage before all have begun.

    Args:
        folder: The folder, or None.
        model: The model before all stages.
        chain: The chain.
        rate: The learning rate at the begin of a stage.
        writes: Whether this process writes: the chief does.

    Raises:
        ValueError: If the folder has stages of another chain, model or rate.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        *,
        model: keras.Model,
        chain: Chain,
        rate: float,
        writes: bool,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._custom_objects = custom_objects_in(all_layers(model))
        self._writes = writes
        self._of = {
            "chain": json.loads(json.dumps(dataclasses.asdict(chain))),
            "weights": _digest(model.variables),
            "learning_rate": rate,
        }
        self._costs = {} if self._folder is None else self._found(self._folder, chain.stages)

    def cost(self, name: str) -> StageCost | None:
        """Returns the cost of a finished stage, or None for one that is to be done."""
        return self._costs.get(name)

    def model(self, name: str) -> keras.Model:
        """Loads the model after a finished stage, in the current scope."""
        assert self._folder is not None
        with keras.saving.custom_object_scope(self._custom_objects):
            return keras.models.load_model(self._folder / f"{name}.keras", compile=False)

    def add(self, name: str, model: keras.Model, cost: StageCost) -> None:
        """Writes the model after a stage, and its cost.

        Raises:
            OSError: If they cannot be written.
        """
        if self._folder is None or not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        contents = {
            f"{name}.keras": file_of_model(model, KERAS),
            f"{name}.json": json.dumps(dataclasses.asdict(cost)).encode(),
            _CHAIN_FILE: json.dumps(self._of).encode(),
        }
        with whole_files(*(self._folder / each for each in contents)) as files:
            for file, content in zip(files, contents.values(), strict=True):
                file.write(content)

    def clear(self) -> None:
        """Removes what `add` has written."""
        if self._folder is None or not self._writes:
            return
        for pattern in ("*.keras", "*.json"):
            for path in self._folder.glob(pattern):
                path.unlink()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _found(self, folder: Path, stages: Sequence[str]) -> dict[str, StageCost]:
        if not (folder / _CHAIN_FILE).is_file():
            return {}
        try:
            stored = json.loads((folder / _CHAIN_FILE).read_text("utf-8"))
            costs = {
                name: StageCost(**json.loads((folder / f"{name}.json").read_text("utf-8")))
                for name in stages
                if (folder / f"{name}.json").is_file() and (folder / f"{name}.keras").is_file()
            }
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"`stages_dir` must have whole files of finished stages. Received: {folder}, of "
                f"which one cannot be read ({error}). Remove the folder to begin from the start."
            ) from error
        if stored != self._of:
            other = next(key for key in self._of if stored.get(key) != self._of[key])
            raise ValueError(
                "`stages_dir` must be new, or that of the same chain of the same model. Received: "
                f"{folder}, whose stages are of another {other.replace('_', ' ')}. Choose another "
                "folder, or remove this one."
            )
        return costs


def _digest(variables: Sequence[Any]) -> str:
    found = hashlib.sha256()
    for variable in variables:
        found.update(value_of(variable).tobytes())
    return found.hexdigest()
