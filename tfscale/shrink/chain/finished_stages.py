"""The stages of a chain on disk, so that a program that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers
from tfscale.callbacks import Checkpoint
from tfscale.files import whole_files
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under, state_of, value_of
from tfscale.shrink.chain.chain import STAGES, Chain
from tfscale.shrink.chain.costs import KERAS, StageCost, file_of_model

_CHAIN_FILE = "chain.json"


class FinishedStages:
    """Models after stages, each with its cost, in a folder; without a folder there are none.

    Which stages are finished is read once, at the beginning: all workers find the same ones,
    because none finishes a stage before all have begun. Beside them is the checkpoint of the stage
    that trains.

    Args:
        folder: The folder, or None.
        model: The model before all stages.
        chain: The chain.
        compiled: The arguments of `compile` by name, of which the loss and the optimizer count.
        rate: The learning rate at the begin of a stage.
        steps: Batches of an epoch.
        writes: Whether this process writes: the chief does.

    Raises:
        ValueError: If the folder has stages of another chain, model, loss, optimizer or rate.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        *,
        model: keras.Model,
        chain: Chain,
        compiled: Mapping[str, Any],
        rate: float,
        steps: int,
        writes: bool,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._custom_objects = custom_objects_in(all_layers(model))
        self._writes = writes
        self._of = {
            "chain": json.loads(json.dumps(dataclasses.asdict(chain))),
            "weights": _digest(model.variables),
            "architecture": "" if self._folder is None else _digest_of_layers(model),
            "loss_or_optimizer": _digest_of_compiled(compiled),
            "learning_rate": rate,
            "number_of_steps": steps,
        }
        self._random: dict[str, Any] = {}
        self._costs = {} if self._folder is None else self._found(self._folder, chain.stages)

    def cost(self, name: str) -> StageCost | None:
        """Returns the cost of a finished stage, or None for one that is to be done."""
        return self._costs.get(name)

    def model(self, name: str) -> keras.Model:
        """Loads the model after a finished stage, in the current scope."""
        assert self._folder is not None
        try:
            with keras.saving.custom_object_scope(self._custom_objects):
                model = keras.models.load_model(self._folder / f"{name}.keras", compile=False)
            # A file has the seeds of layers, but not how far they are.
            for variable, value in zip(_random_state(model), self._random[name], strict=True):
                variable.assign(np.asarray(value, variable.dtype))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _unreadable(self._folder, error) from error
        return model

    def checkpoints(self, name: str) -> list[keras.callbacks.Callback]:
        """Returns what saves a stage after each epoch, and continues it from there.

        Raises:
            OSError: If the folder cannot be written.
        """
        if self._folder is None:
            return []
        if self._writes:
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_files(self._folder / _CHAIN_FILE) as (file,):
                file.write(json.dumps(self._of).encode())
        return [Checkpoint(self._folder / name, keep=2)]

    def add(self, name: str, model: keras.Model, cost: StageCost) -> None:
        """Writes the model after a stage, and its cost. Its checkpoints are removed.

        The chief does it without the other workers: call it outside of the scope.

        Raises:
            OSError: If they cannot be written.
        """
        if self._folder is not None and self._writes:
            self._write(self._folder, name, model, cost)

    def as_loaded(self, model: keras.Model) -> keras.Model:
        """Returns the model for the next stage, made in the current scope, on all workers.

        With a folder it is a copy whose variables have the paths that a loaded one has, by which a
        checkpoint of the next stage finds them.
        """
        if self._folder is None:
            return model
        return copy_under(model.dtype_policy, model, [], self._custom_objects)[0]

    def clear(self) -> None:
        """Removes what was written."""
        if self._folder is None or not self._writes:
            return
        for name in STAGES:
            shutil.rmtree(self._folder / name, ignore_errors=True)
        for pattern in ("*.keras", "*.json"):
            for path in self._folder.glob(pattern):
                path.unlink()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _write(self, folder: Path, name: str, model: keras.Model, cost: StageCost) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        contents = {
            f"{name}.keras": file_of_model(model, KERAS),
            f"{name}.json": json.dumps(
                {
                    "cost": dataclasses.asdict(cost),
                    "random": [value_of(each).tolist() for each in _random_state(model)],
                }
            ).encode(),
            _CHAIN_FILE: json.dumps(self._of).encode(),
        }
        with whole_files(*(folder / each for each in contents)) as files:
            for file, content in zip(files, contents.values(), strict=True):
                file.write(content)
        shutil.rmtree(folder / name, ignore_errors=True)

    def _found(self, folder: Path, stages: Sequence[str]) -> dict[str, StageCost]:
        if not (folder / _CHAIN_FILE).is_file():
            return {}
        try:
            stored = dict(json.loads((folder / _CHAIN_FILE).read_text("utf-8")))
            found = {
                name: json.loads((folder / f"{name}.json").read_text("utf-8"))
                for name in stages
                if (folder / f"{name}.json").is_file() and (folder / f"{name}.keras").is_file()
            }
            costs = {name: StageCost(**each["cost"]) for name, each in found.items()}
            self._random = {name: each["random"] for name, each in found.items()}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _unreadable(folder, error) from error
        if other := next((key for key in self._of if stored.get(key) != self._of[key]), None):
            raise ValueError(
                "`stages_dir` must be new, or that of the same chain of the same model. Received: "
                f"{folder}, whose stages are of another {other.replace('_', ' ')}. Choose another "
                "folder, or remove this one."
            )
        return costs


def _unreadable(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"`stages_dir` must have whole files of finished stages. Received: {folder}, of which one "
        f"cannot be read ({error}). Remove the folder to begin from the start."
    )


def _random_state(model: keras.Model) -> list[Any]:
    """Returns the variables of random layers, in the order that a copy has too."""
    return state_of(model)[len(model.weights) :]


def _digest(variables: Sequence[Any]) -> str:
    found = hashlib.sha256()
    for variable in variables:
        found.update(value_of(variable).tobytes())
    return found.hexdigest()


def _digest_of_layers(model: keras.Model) -> str:
    """Returns a digest of what the layers compute: equal weights may belong to another model.

    It is that of the same program in another process, and of a model that is made once more in this
    one: names, drawn seeds and addresses, which may differ then, are not in it.
    """
    found = hashlib.sha256()
    for layer in all_layers(model):
        if not isinstance(layer, keras.Model):
            config = {**layer.get_config(), "name": ""}
            text = json.dumps(_without_draws(config), sort_keys=True, default=_kind)
            found.update(f"{type(layer).__name__}{text}".encode())
    return found.hexdigest()


def _digest_of_compiled(compiled: Mapping[str, Any]) -> str:
    """Returns a digest of the loss and the optimizer that a model was compiled with."""
    leaves = keras.tree.flatten([compiled.get(name) for name in ("loss", "optimizer")])
    text = json.dumps(list(map(_told, leaves)), sort_keys=True, default=_kind)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(value: Any) -> Any:
    """Returns a name, or the class and the config of an object, as far as it has one."""
    if value is None or isinstance(value, str):
        return value
    config = None
    if hasattr(value, "get_config"):
        with contextlib.suppress(OSError, TypeError, ValueError, NotImplementedError):
            config = _without_draws({**value.get_config(), "name": ""})
    return [getattr(value, "__qualname__", type(value).__qualname__), config]


def _without_draws(config: Any) -> Any:
    """Returns a config without seeds, and without the names of layers in it, which are counted."""
    if isinstance(config, dict):
        dropped = {"seed", "name"} if "trainable" in config else {"seed"}
        return {str(k): _without_draws(v) for k, v in config.items() if k not in dropped}
    return [*map(_without_draws, config)] if isinstance(config, list | tuple) else config


def _kind(value: Any) -> str:
    return type(value).__name__
