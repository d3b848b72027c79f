"""Tensor parallelism: the devices of a replica share the matrices of a model. Experimental."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import (
    all_layers,
    axis_of,
    devices_per_replica,
    divide_block,
    divide_layer,
    is_divided,
    is_owned,
    kernel_of,
    refuse_model_outside,
    sequence,
)
from tfscale.parallel.tensor_refusals import (
    refuse_block,
    refuse_layer,
    refuse_model,
    watching_optimizer,
)
from tfscale.parallel.tensor_rules import TRANSFORMER, TensorRule, chosen

_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def tensor_parallel(
    model: keras.Model, rules: Sequence[TensorRule] = TRANSFORMER
) -> dict[str, str]:
    """Divides layers of a model over the devices of each replica. Experimental.

    Each device keeps some columns or rows of a matrix, and their gradients and optimizer slots,
    and computes with them. The model keeps its classes, its outputs and its files: a saved
    `.keras` file has whole matrices. `model.weights` lists the parts. Training matches one device.

    Choose it where a model is too large for one device. A "row" layer after a "column" layer takes
    the parts as they are. Attention layers of Keras whose queries, keys, values and output are all
    divided run as a "block": each device computes its heads. A layer of your own may be a "block"
    if its `call` reads sizes from tensors, ends in a "row" layer, and treats the columns of the
    "column" layers in it separately; this is not checked. Dropout stays outside of blocks, on whole
    tensors.

    Args:
        model: A built model without a built optimizer, in the scope of a
            `mirrored_strategy(devices_per_replica=T)` with T > 1.
        rules: How layers are divided; of several rules that match a layer the first counts. The
            default is for the model of `recipes.language_model`.

    Returns:
        The kind of division by the path of each divided layer, blocks last.

    Raises:
        ValueError: If the strategy has one device for each replica, a rule matches no layer, a size
            is no multiple of T, or a layer or optimizer cannot be divided.

    Example:
        >>> strategy = strategies.mirrored_strategy(1, devices_per_replica=2)
        >>> with strategy.scope():
        ...     layers = [keras.layers.Dense(8, "relu", name="up"), keras.layers.Dense(3)]
        ...     model = keras.Sequential([keras.Input([4]), *layers], name="mlp")
        >>> tensor_parallel(model, [TensorRule(".*/up", "column")])
        {'mlp/up': 'column'}
        >>> [tuple(weight.shape) for weight in model.weights]
        [(4, 4), (4, 4), (4,), (4,), (8, 3), (3,)]

    Source: Shoeybi et al. 2019, "Megatron-LM", arXiv:1909.08053, section 3.
    """
    rules = [_rule(each) for each in sequence("rules", rules)]
    if not rules:
        raise ValueError(
            "`rules` must say how a layer is divided. Received: no rule. Pass "
            '[TensorRule(r".*/up", "column")], or leave rules out for a transformer.'
        )
    refuse_model(model)
    strategy = model.distribute_strategy
    count = devices_per_replica(strategy) if is_owned(strategy) else 1
    if count == 1:
        raise ValueError(
            "`model` must be built in the scope of a strategy with several devices for each "
            f"replica. Received: {model.name!r} with one. Build it in the scope of "
            "strategies.mirrored_strategy(num_replicas, devices_per_replica=2)."
        )
    refuse_model_outside(model, "tensor_parallel")
    inner = [layer for layer in all_layers(model) if layer is not model]
    found = chosen(rules, inner)
    blocks = [layer for layer, rule in found if rule.kind == "block"]
    divided = [(layer, rule) for layer, rule in found if rule.kind != "block"]
    kinds = {id(layer): rule.kind for layer, rule in divided}
    blocks += [each for each in inner if _is_whole_attention(each, kinds)]
    for layer, rule in divided:
        _check(layer, rule, count, inner)
    for layer in blocks:
        refuse_block(layer, [kinds.get(id(each)) for each in all_layers(layer)])
    with strategy.scope():
        for layer, rule in divided:
            divide_layer(layer, rule.kind, rule.groups, strategy)
            watching_optimizer(layer)
        for layer in blocks:
            divide_block(layer, strategy)
    for name in ("train_function", "test_function", "predict_function"):
        setattr(model, name, None)
    shown = {layer.path or layer.name: rule.kind for layer, rule in divided}
    return shown | {layer.path or layer.name: "block" for layer in blocks}


def _rule(rule: Any) -> TensorRule:
    if not isinstance(rule, TensorRule):
        raise ValueError(
            f"`rules` must be TensorRule objects. Received: {rule!r}. Write "
            'TensorRule(r".*/up", "column").'
        )
    return rule


def _check(layer: Any, rule: TensorRule, count: int, inner: list[Any]) -> None:
    """Checks that a layer can be divided by a rule."""
    if kernel_of(layer) is None:
        raise ValueError(
            "`rules` must match layers of the kinds Dense, EinsumDense and Embedding, or be of the "
            f'kind "block". Received: {rule!r}, which matches {layer.path!r} of class '
            f"{type(layer).__name__}. Write a pattern that leaves it out."
        )
    refuse_layer(layer, rule.kind, inner)
    axis = axis_of(layer, rule.kind)
    size = kernel_of(layer).shape[axis]
    if rule.kind == "vocabulary":
        is_possible, unit = size >= count, f"at least {count}"
    else:
        unit = f"a multiple of {rule.groups * count}, {count} devices times {rule.groups} groups"
        is_possible = size % (rule.groups * count) == 0
    if not is_possible:
        raise ValueError(
            f"`rules` must divide an axis whose size is {unit}. Received: {rule!r} for "
            f"{layer.path!r}, whose axis {axis} has size {size}. Change the size or the rule."
        )


def _is_whole_attention(layer: Any, kinds: dict[int, str]) -> bool:
    """Tells whether each device can compute some heads of a Keras attention layer."""
    if type(layer) not in _ATTENTION:
        return False
    projections = [each for each in all_layers(layer) if kernel_of(each) is not None]
    divisions = sorted(kinds.get(id(each), "") for each in projections)
    has_dropout = bool(np.any([getattr(e, "rate", 0) for e in all_layers(layer)]))
    is_known = divisions == ["column", "column", "column", "row"]
    return is_known and not has_dropout and not is_divided(layer)
