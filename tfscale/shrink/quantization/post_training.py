"""Keras's own quantization behind one call, with what it costs by layer.

smaller = tfscale.shrink.quantize(model, "int8", calibration=images[:500])
print(smaller.report)
smaller.model.save("smaller.keras")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers, one_of, sequence
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under
from tfscale.shrink.quantization.calibration import calibration_batches, refuse_other_than_model
from tfscale.shrink.quantization.cost_by_layer import QuantizationReport, costs_of
from tfscale.shrink.refusals import refuse_not_finite

MODES = ("int8", "int4", "float8", "gptq", "awq")
_BY_BLOCK = {"gptq": keras.quantizers.GPTQConfig, "awq": keras.quantizers.AWQConfig}
"""Modes that go through the blocks of a transformer one by one."""


@dataclass(frozen=True)
class Quantized:
    """A quantized model, and what that cost.

    Attributes:
        model: The quantized copy: a plain Keras model, not compiled.
        report: What each layer lost.
    """

    model: keras.Model
    report: QuantizationReport


class _TokensAlready:
    """Stands for the tokenizer that Keras wants; the calibration data are tokens."""


def quantize(
    model: keras.Model,
    mode: str,
    *,
    calibration: Any,
    measure: Callable[[Any], float] | None = None,
    keep: Iterable[str] = (),
    before: Iterable[str] = (),
    blocks: Iterable[str] = (),
) -> Quantized:
    """Returns a quantized copy of a model, and a report of what each quantized layer costs.

    "int8" rounds weights to 8 bits, and inputs of a layer by row when they arrive; "int4" rounds
    weights to 4 bits; "float8" rounds both to 8-bit floats, for training on hardware that has them.
    "gptq" and "awq" choose 4-bit weights of a transformer's blocks by calibration data. For an
    integer file of a runtime, use `quantization_aware`, with or without training.

    The copy is made in the current scope. It predicts, and can be trained with LoRA:
    `layer.enable_lora(rank)` on its layers, then `compile` and `fit`. It is saved and loaded; a
    class of layers that makes layers inside must have them in its config, or Keras loads floats.

    Args:
        model: A built model that can be made from its config. It is not changed.
        mode: One of `MODES`.
        calibration: Inputs of the model that are typical: see `quantization_aware`. For "gptq" and
            "awq" rows of tokens, integers [rows, length].
        measure: A number that says how good the outputs for all of `calibration` are, such as an
            accuracy: called with the outputs, in the order of the data.
        keep: Names or paths of layers that stay as they are.
        before: For "gptq" and "awq": names of the layers that make the first block's input from
            tokens, in order.
        blocks: For "gptq" and "awq": names of the blocks, each called with the result of the one
            before. Leave it out if the model's class has `get_quantization_layer_structure`.

    Returns:
        The copy and the report.

    Raises:
        ValueError: If an argument is impossible, or no layer can be quantized.

    Example:
        >>> model = keras.Sequential([keras.Input([8]), keras.layers.Dense(4, name="only")])
        >>> smaller = quantize(model, "int8", calibration=np.ones([16, 8], "float32"))
        >>> smaller.report.layers[0].path.rpartition("/")[2]
        'only'

    Source: Frantar et al. 2022, arXiv:2210.17323 (GPTQ); Lin et al. 2023, arXiv:2306.00978 (AWQ).
    """
    refuse_other_than_model(model)
    one_of("mode", mode, MODES)
    layers = all_layers(model)
    if not model.built or any(getattr(each, "quantization_mode", None) for each in layers):
        raise ValueError(
            f"`model` must be built, and not quantized yet. Received: {model.name!r}. Call it on a "
            "batch once, or pass the float model."
        )
    refuse_not_finite(model.weights, "quantize")
    kept = _named(layers, "keep", keep)
    copy, _ = copy_under(model.dtype_policy, model, [], custom_objects_in(layers))
    twins = dict(zip(map(id, layers), all_layers(copy), strict=True))
    first = [twins[id(layer)] for layer in _named(layers, "before", before)]
    line = [twins[id(layer)] for layer in _named(layers, "blocks", blocks)]
    config = None
    if mode in _BY_BLOCK:
        config = _config(mode, model, calibration, first, line)
    elif first or line:
        raise ValueError(
            f'`before` and `blocks` must be left out unless `mode` is "gptq" or "awq". Received: '
            f"mode={mode!r}. Omit them."
        )
    # Keras prepares layers outside of the blocks too, and then leaves them as they are.
    inside = {id(each) for block in line or [copy] for each in all_layers(block)}
    chosen = inside - {id(twins[id(layer)]) for layer in kept}
    with warnings.catch_warnings():
        # Keras warns of each layer that has nothing to quantize.
        warnings.filterwarnings("ignore", message=r".*quantiz.*", category=UserWarning)
        copy.quantize(mode, config=config, filters=lambda layer: id(layer) in chosen)
    if config is not None:
        # Layers keep the config, and would write data and blocks into a file.
        config.dataset = config.tokenizer = config.quantization_layer_structure = None
    pairs = [
        (layer, twins[id(layer)])
        for layer in layers
        if layer is not model and getattr(twins[id(layer)], "quantization_mode", None)
    ]
    if not pairs:
        raise ValueError(
            "`model` must have a Dense, EinsumDense or Embedding layer that is not kept. Received: "
            f"{model.name!r}, of which Keras quantizes nothing as {mode!r}. For convolutions use "
            "quantization_aware."
        )
    return Quantized(copy, costs_of(model, copy, pairs, calibration, measure))


def _named(layers: list[Any], argument: str, names: Iterable[str]) -> list[Any]:
    """Returns the layers of the given names or paths, in the order of the names."""
    found = []
    for name in sequence(argument, names):
        matching = [layer for layer in layers if name in (layer.name, layer.path)]
        if len(matching) != 1:
            raise ValueError(
                f"`{argument}` must name one layer each. Received: {name!r}, which is the name or "
                f"path of {len(matching)} layers of the model. Pass paths of its layers, such as "
                f"{layers[-1].path!r}."
            )
        found += matching
    return found


def _config(mode: str, model: Any, calibration: Any, before: list[Any], blocks: list[Any]) -> Any:
    """Returns the config of a mode that needs calibration data and the order of blocks."""
    rows = np.concatenate([np.asarray(b) for b in calibration_batches(model, calibration)])
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"`calibration` must be rows of tokens for {mode!r}: integers [rows, length]. "
            f"Received: shape {rows.shape}, {rows.dtype}. Pass tokenized texts of one length."
        )
    structure = {"pre_block_layers": before, "sequential_blocks": blocks} if blocks else None
    has_own = type(model).get_quantization_layer_structure is not (
        keras.Model.get_quantization_layer_structure
    )
    if structure is None and not has_own:
        raise ValueError(
            f"`blocks` must name the blocks of the transformer for {mode!r}. Received: none, and "
            f"{type(model).__name__} has no get_quantization_layer_structure. Pass the names of "
            "the layers that are called one after the other, and `before`."
        )
    return _BY_BLOCK[mode](
        dataset=list(rows),
        tokenizer=_TokensAlready(),
        num_samples=len(rows),
        sequence_length=rows.shape[1],
        group_size=-1,
        quantization_layer_structure=structure,
    )
