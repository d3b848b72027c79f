"""What tensor parallelism cannot train as one device does, and refuses."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import (
    all_layers,
    current_step,
    is_divided,
    own_state,
    owns,
    pipeline_of,
    stage_of,
)
from tfscale.optimizers.lars import LARS
from tfscale.parallel.tensor_slots import save_joined

_SUMS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
_WHOLE_VARIABLES = (
    LARS,
    keras.optimizers.Lamb,
    keras.optimizers.Adafactor,
    keras.optimizers.Muon,
)


def refuse_model(model: Any) -> None:
    """Checks that a model can be divided now."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: {model!r}. Pass the model that is to be "
            "trained."
        )
    unbuilt = [layer.name for layer in all_layers(model) if not layer.built]
    if unbuilt:
        raise ValueError(
            "`model` must be built, so that its matrices are known. Received: "
            f"{model.name!r} with {', '.join(unbuilt[:5])} not built. Call model.build(shape), or "
            "the model on a batch, in the strategy's scope."
        )
    if any(is_divided(layer) for layer in all_layers(model)):
        raise ValueError(
            f"`model` must not be divided yet. Received: {model.name!r}, which is. Give all rules "
            "in one call."
        )
    if stage_of(model.distribute_strategy):
        raise ValueError(
            "`model` must be built under a strategy with shard=0 to be divided. Received: "
            f"{model.name!r} with shard={stage_of(model.distribute_strategy)}. Leave one of them "
            "out."
        )
    _refuse_pipeline(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        raise ValueError(
            "`model` must not have been trained yet, because its optimizer has slots of whole "
            f"matrices. Received: {model.name!r} with a built {optimizer.name!r}. Call "
            "tensor_parallel before fit."
        )


def refuse_layer(layer: Any, kind: str, inner: Sequence[Any]) -> None:
    """Checks that one layer can be divided.

    Args:
        layer: With a known matrix.
        kind: How it is to be divided.
        inner: All layers of its model.
    """
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise ValueError(
            f"`rules` must leave out layers with LoRA or quantized weights. Received: a rule for "
            f"{layer.path!r}. Divide the plain layer."
        )
    if layer.activity_regularizer is not None:
        raise ValueError(
            "`activity_regularizer` must be None for a divided layer. Received: "
            f"{layer.activity_regularizer!r} of {layer.path!r}. Regularize its output in a layer "
            "of its own."
        )
    own = [v for v in layer.variables if v.trainable or v in layer.trainable_variables]
    for variable in own:
        _refuse_rules_of_whole(variable)
        owners = [each for each in inner if owns(each, variable)]
        if len(owners) > 1:
            raise ValueError(
                "`rules` must leave out layers that share a weight. Received: a rule for "
                f"{layer.path!r}, whose {variable.path!r} is also in {owners[0].path!r}. Use "
                "keras.layers.ReversibleEmbedding, or leave it out."
            )
    if kind == "column" and not _is_elementwise(layer.activation):
        raise ValueError(
            "`activation` of a column layer must treat each element separately. Received: "
            f"{layer.activation!r} of {layer.path!r}. Put it in a layer of its own after it."
        )


def refuse_block(layer: Any, kinds: Sequence[str | None]) -> None:
    """Checks that a layer can be run as a whole on each device.

    Args:
        layer: The layer.
        kinds: How each layer in it is divided, or None.
    """
    if "row" not in kinds or "column" not in kinds:
        raise ValueError(
            f'`rules` must divide layers in a block by "column", and the last one by "row". '
            f"Received: a block {layer.path!r} without. Add rules for the layers in it."
        )
    if "vocabulary" in kinds:
        raise ValueError(
            "`rules` must leave embeddings outside of blocks. Received: one in "
            f"{layer.path!r}. Leave the block's rule out: its layers are divided one by one."
        )
    for part, kind in zip(all_layers(layer), kinds, strict=True):
        if kind == "row" and part.activation not in (None, keras.activations.linear):
            raise ValueError(
                "`activation` of a row layer in a block must be None, because the block adds up "
                f"results. Received: {part.activation!r} of {part.path!r}. Put it after the block."
            )
        if getattr(part, "rate", 0) or getattr(part, "seed_generator", None) is not None:
            raise ValueError(
                "`rules` must leave layers with random numbers outside of blocks, because each "
                f"device would draw its own. Received: {part.path!r} in {layer.path!r}. Leave the "
                "block's rule out: its layers are divided one by one."
            )
        if own_state(part) or part.activity_regularizer is not None:
            raise ValueError(
                "`rules` must leave layers with state or activity_regularizer outside of blocks. "
                f"Received: {part.path!r} in {layer.path!r}. Leave the block's rule out."
            )


def watching_optimizer(layer: Any) -> None:
    """Lets a divided layer look at the optimizers of the model, when a training step is traced.

    One that needs whole matrices is refused. The others write and read files as if the matrices
    were whole.
    """
    call = layer.call

    @functools.wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        step = current_step()
        for each in step.layers if step is not None else ():
            refuse_rule_of_whole_matrices(getattr(each, "optimizer", None))
            _refuse_pipeline(each)
            _refuse_compiled(each)
            if getattr(each, "optimizer", None) is not None:
                save_joined(each)
        return call(*args, **kwargs)

    vars(layer)["call"] = checked


def refuse_rule_of_whole_matrices(optimizer: Any) -> None:
    """Checks that an optimizer does not look at whole matrices.

    Args:
        optimizer: A Keras optimizer, or None.

    Raises:
        ValueError: If it does.

    Example:
        >>> refuse_rule_of_whole_matrices(keras.optimizers.Adam(global_clipnorm=1.0))
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if getattr(optimizer, "clipnorm", None):
        raise ValueError(
            "`clipnorm` must not be set with tensor_parallel, because it would clip each part of a "
            f"matrix by itself. Received: clipnorm={optimizer.clipnorm!r}. Use global_clipnorm."
        )
    if isinstance(optimizer, _WHOLE_VARIABLES):
        raise ValueError(
            "`optimizer` must treat elements separately with tensor_parallel, because a matrix is "
            f"in parts. Received: optimizer={type(optimizer).__name__}. Use SGD, Adam, AdamW, "
            "RMSprop, Adagrad or Lion."
        )


def _refuse_pipeline(model: Any) -> None:
    if pipeline_of(model) is not None:
        raise ValueError(
            "`model` must not be a pipeline and divided by tensor_parallel, which give the devices "
            f"of a replica different work. Received: {model.name!r}. Choose one of the two."
        )


def _refuse_compiled(model: Any) -> None:
    if getattr(model, "jit_compile", False) and not model.run_eagerly:
        raise ValueError(
            "`jit_compile` must be False for a model divided by tensor_parallel, because XLA "
            "compiles for one device. Received: jit_compile=True for "
            f"{model.name!r}. Call model.compile(..., jit_compile=False)."
        )


def _refuse_rules_of_whole(variable: Any) -> None:
    if variable.regularizer is not None and not isinstance(variable.regularizer, _SUMS):
        raise ValueError(
            "`regularizer` of a divided weight must be a sum over its elements. Received: "
            f"{variable.regularizer!r} of {variable.path!r}. Use L1 or L2."
        )
    if not isinstance(variable.constraint, (keras.constraints.NonNeg, type(None))):
        raise ValueError(
            "`constraint` of a divided weight must treat each element separately. Received: "
            f"{variable.constraint!r} of {variable.path!r}. Use NonNeg, or leave the layer out."
        )


def _is_elementwise(activation: Any) -> bool:
    """Tells by a trial whether an activation treats each element separately."""
    if activation is None:
        return True
    whole = np.linspace(-3, 3, 24).reshape(3, 8)
    together = np.asarray(activation(keras.ops.convert_to_tensor(whole)))
    halves = [activation(keras.ops.convert_to_tensor(part)) for part in np.split(whole, 2, axis=1)]
    return bool(np.allclose(together, np.concatenate([np.asarray(h) for h in halves], axis=1)))
