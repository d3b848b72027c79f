"""The model to convert: loaded from a file, in float32, on one device."""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import all_layers
from tfscale.preparation.custom_objects import custom_objects_in

_CONFIG = "config.json"


@contextlib.contextmanager
def file_of(model: keras.Model | str | Path) -> Iterator[Path]:
    """Gives the `.keras` file of a model; a temporary one if it is in memory.

    A saved file has whole weights, whatever strategy the model was trained under, and the state of
    layers such as `StringLookup`, which is not in their config.

    Args:
        model: A built model, or the path of a file.

    Raises:
        ValueError: If there is no such file, or this is called in the scope of a strategy.
    """
    if tf.distribute.has_strategy():
        raise ValueError(
            "`export` must be called outside of a strategy's scope, because a file is for one "
            "device. Received: a call in the scope of a "
            f"{type(tf.distribute.get_strategy()).__name__}. Call it after the `with` block."
        )
    if isinstance(model, keras.Model):
        with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
            path = Path(folder) / "model.keras"
            with keras.saving.custom_object_scope(custom_objects_in(all_layers(model))):
                model.save(path)
                yield path
        return
    path = Path(model)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"`model` must be a Keras model or a .keras file. Received: model={str(model)!r}. Save "
            "the model with model.save('model.keras')."
        )
    yield path


def loaded(path: Path, *, in_float32: bool) -> keras.Model:
    """Loads a model for predicting.

    Args:
        path: A `.keras` file.
        in_float32: Whether layers of a mixed precision compute in float32, as their weights are
            stored. Other runtimes compute half precision differently, or not at all.

    Raises:
        ValueError: If Keras cannot load it.
    """
    # They register layers: ShardedEmbedding, and those of quantization-aware training.
    import tfscale.parallel
    import tfscale.shrink.quantization  # noqa: F401

    try:
        if not in_float32:
            return keras.models.load_model(path, compile=False)
        with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
            copy = Path(folder) / "model.keras"
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
                for name in source.namelist():
                    content = source.read(name)
                    if name == _CONFIG:
                        content = json.dumps(_in_float32(json.loads(content))).encode()
                    target.writestr(name, content)
            return keras.models.load_model(copy, compile=False)
    except (TypeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"`model` must be a file that keras.models.load_model loads. Received: {path}, of "
            f"which Keras says: {first} If it lacks a class, import the module that registers it; "
            "with the command: --import=MODULE. Keras cannot load quantized attention again."
        ) from error


def mixed_policy(path: Path) -> str | None:
    """Returns the mixed precision that layers of a file compute in, such as "mixed_bfloat16".

    Args:
        path: A `.keras` file.
    """
    with zipfile.ZipFile(path) as archive:
        found = sorted(set(_mixed_names(json.loads(archive.read(_CONFIG)))))
    return found[0] if found else None


def quantization_of(model: keras.Model) -> str | None:
    """Returns the mode in which Keras has quantized a layer of a model, or None."""
    modes = (getattr(layer, "quantization_mode", None) for layer in all_layers(model))
    return min((str(mode) for mode in modes if mode is not None), default=None)


def with_whole_tables(model: keras.Model) -> keras.Model:
    """Returns a model whose `ShardedEmbedding` layers have one shard; the model if none has more.

    LiteRT cannot look up in several tables.
    """
    from tfscale.parallel import ShardedEmbedding, resharded

    tables = [each for each in all_layers(model) if isinstance(each, ShardedEmbedding)]
    return resharded(model, 1) if any(each.num_shards > 1 for each in tables) else model


def refuse_quantizing_again(model: keras.Model, quantize: str | None) -> None:
    """Refuses to quantize a quantization-aware model by other ranges than it was trained with.

    Raises:
        ValueError: If `quantize` is not None and the model is from `quantization_aware`.
    """
    from tfscale.shrink.quantization import FakeQuantize, RoundedWeights

    aware = (FakeQuantize, RoundedWeights)
    if quantize is not None and any(isinstance(each, aware) for each in all_layers(model)):
        raise ValueError(
            "`quantize` must be None for a model from quantization_aware, which has its ranges. "
            f"Received: quantize={quantize!r} for {model.name!r}. Write its LiteRT file of "
            "integers with tfscale.shrink.integer_litert(model)."
        )


def check_shape(model: keras.Model) -> None:
    """Checks that a model has named inputs, and a batch of any size.

    Raises:
        ValueError: If it is a subclass without inputs, or its batch has a fixed size.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"`model` must be a functional or Sequential model with inputs. Received: a "
            f"{type(model).__name__}. Call it on a keras.Input and make a keras.Model of both."
        )
    for each in model.inputs:
        if each.shape[0] is not None:
            raise ValueError(
                f"`model` must take batches of any size. Received: input {each.name!r} of shape "
                f"{tuple(each.shape)}. Make its Input without `batch_size` and load the weights."
            )


def _mixed_names(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        name = _policy_name(part)
        if name is not None and name.startswith("mixed_"):
            yield name
        for value in part.values():
            yield from _mixed_names(value)
    elif isinstance(part, list):
        for value in part:
            yield from _mixed_names(value)


def _in_float32(part: Any) -> Any:
    if isinstance(part, list):
        return [_in_float32(value) for value in part]
    if not isinstance(part, dict):
        return part
    changed = {name: _in_float32(value) for name, value in part.items()}
    name = _policy_name(part)
    if name is not None and name.startswith("mixed_"):
        changed["config"] = {**changed["config"], "name": "float32"}
    return changed


def _policy_name(part: dict[str, Any]) -> str | None:
    config = part.get("config")
    if part.get("class_name") == "DTypePolicy" and isinstance(config, dict):
        return str(config.get("name"))
    return None
