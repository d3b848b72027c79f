"""The folder of a recipe's run: which recipe, with which flags, and the trained model."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from recipes.results import MODEL_FILE, SUMMARY_FILE
from tfscale.report import RUN_FILE

_RECIPE = re.compile(r"^python -m (recipes\.\w+)")
_NOT_TAKEN = ("model_dir", "checkpoint_every", "tensorboard", "predictions")
"""Flags of the results of a run, which are not those of this program."""


@dataclass(frozen=True)
class RunFolder:
    """A finished run.

    Attributes:
        path: The folder.
        recipe: The module of the recipe, such as "recipes.image_classification".
        flags: The values of its flags, by name.
    """

    path: Path
    recipe: str
    flags: Mapping[str, Any]

    @property
    def model_file(self) -> Path:
        """The trained model."""
        return self.path / MODEL_FILE

    def set_flags(self, changes: Sequence[str]) -> None:
        """Defines the flags of the recipe, with the values of the run.

        Args:
            changes: Flags that replace those of the run, such as `["--num_replicas=2"]`.

        Raises:
            ValueError: If a flag is unknown, or a value is invalid.
        """
        importlib.import_module(self.recipe).define_flags()
        own = [f"--model_dir={self.path}"]
        own += [
            text
            for name, value in self.flags.items()
            if name not in _NOT_TAKEN and (text := _as_argument(name, value)) is not None
        ]
        try:
            rest = flags.FLAGS([self.recipe, *own, *changes])
        except flags.Error as error:
            raise ValueError(
                f"`--flags` must be flags of {self.recipe}. Received: {' '.join(changes)!r}. "
                f"{str(error).rstrip('.')}."
            ) from error
        if len(rest) > 1:
            raise ValueError(
                f"`--flags` must contain only flags. Received: {' '.join(rest[1:])!r}. Flags start "
                "with two dashes."
            )


def read_run_folder(path: str) -> RunFolder:
    """Finds out what a folder is the result of.

    Args:
        path: The --model_dir of a finished run.

    Raises:
        ValueError: If it is not one, or has no model.
    """
    folder = Path(path)
    try:
        command = json.loads((folder / RUN_FILE).read_text("utf-8"))["command"]
        values = json.loads((folder / SUMMARY_FILE).read_text("utf-8"))["flags"]
        found = _RECIPE.match(command)
        if found is None or not isinstance(values, dict):
            raise ValueError(f"its command is {command!r}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`--run` must be the --model_dir of a finished recipe, with {RUN_FILE} and "
            f"{SUMMARY_FILE}. Received: --run={path} ({error}). Train one first: python -m "
            "recipes.image_classification --dataset=digits --model_dir=runs/digits"
        ) from error
    run = RunFolder(folder, found[1], values)
    if not run.model_file.is_file():
        raise ValueError(
            f"`--run` must be a folder with {MODEL_FILE}. Received: --run={path}, a run of "
            f"{run.recipe}, which has none. Choose a run of image_classification, language_model "
            "or recommendation."
        )
    return run


def _as_argument(name: str, value: Any) -> str | None:
    """Returns a flag as it is typed, or None for one that was not set."""
    if value is None:
        return None
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, list):
        return f"--{name}={','.join(map(str, value))}"
    return f"--{name}={value}"
