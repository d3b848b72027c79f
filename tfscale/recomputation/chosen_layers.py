"""Chooses which layers of a model recompute their activations."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import keras

from strategies.extension import (
    all_layers,
    is_owned,
    recomputation_of,
    restore_recomputation,
    sequence,
    set_recomputed,
)
from tfscale.recomputation.activations import kept_by_layer
from tfscale.recomputation.budget import Layer, bytes_in, choose_within


def recompute(
    model: keras.Model,
    layers: Any = None,
    *,
    memory_budget: int | str | None = None,
    inputs: Any = None,
) -> list[str]:
    """Lets layers recompute their activations in the backward pass instead of keeping them.

    Of a chosen layer only the inputs and the result are kept; what is inside is computed again when
    the gradient arrives. So memory falls, and a step computes the forward pass of these layers
    twice. The weights after training are the same: dropout draws the same mask, and
    BatchNormalization updates its statistics once.

    Choose the layers that a model repeats, such as the blocks of a transformer. A layer inside of a
    chosen one is recomputed with it. A layer without layers in it saves little, because its inputs
    are usually what it keeps. Each call replaces the choice of an earlier call and of
    `keras.RematScope`; `layers=()` ends recomputation. A saved file does not contain the choice.

    Layers are recomputed in `fit` under the strategies of this package, not in a model that is run
    eagerly.

    Args:
        model: A model that was built in the scope of a strategy of this package.
        layers: The layers: a regular expression that matches a layer's whole name or whole path, a
            class, a layer, or a sequence of these.
        memory_budget: Instead of `layers`: the largest size of the activations on one replica, as
            bytes or as text with a unit ("2GiB", "500MB"). Layers with the most bytes per
            floating point operation are chosen until what is kept, and the largest chosen layer,
            fit.
        inputs: With `memory_budget`: the model's inputs of one replica batch, as arrays, tensors or
            `tf.TypeSpec` with all sizes known.

    Returns:
        The paths of the chosen layers.

    Raises:
        ValueError: If a layer is not found, or not both or none of `layers` and `memory_budget` are
            given, the budget cannot be kept, or the model's strategy is another.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     hidden = [keras.layers.Dense(8, "relu", name=f"block_{i}") for i in range(3)]
        ...     layers = [keras.Input([8]), *hidden, keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers, name="stack")
        >>> recompute(model, r"block_[12]")
        ['stack/block_1', 'stack/block_2']

    Source: Chen et al. 2016, arXiv:1604.06174; by bytes per operation: Korthikanti et al. 2022,
    arXiv:2205.05198, section 5.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: model={model!r}. Pass the model that is to "
            "be trained."
        )
    if not is_owned(model.distribute_strategy):
        raise ValueError(
            "`model` must be built in the scope of a strategy of `strategies`, because Keras's own "
            f"recomputation gives wrong gradients. Received: {model.name!r}, built outside. Build "
            "it in strategy.scope(), or pass it to tfscale.prepare(..., recompute=...)."
        )
    if (layers is None) == (memory_budget is None):
        raise ValueError(
            "Exactly one of `layers` and `memory_budget` must be given. Received: "
            f"layers={layers!r}, memory_budget={memory_budget!r}. Pass layers=() to end "
            "recomputation."
        )
    inner = [each for each in all_layers(model) if each is not model]
    if layers is not None:
        chosen = _matching(inner, layers)
    else:
        chosen = _within(model, inner, bytes_in("memory_budget", memory_budget), inputs)
    chosen = _outermost(chosen)
    for each in [model, *inner]:
        set_recomputed(each, any(each is one for one in chosen))
    model.train_function = None  # traced with the earlier choice
    return [each.path or each.name for each in chosen]


def _matching(inner: list[Any], layers: Any) -> list[Any]:
    single = isinstance(layers, (str, type, keras.layers.Layer))
    chosen: list[Any] = []
    for choice in [layers] if single else sequence("layers", layers):
        if isinstance(choice, str):
            try:
                pattern = re.compile(choice)
            except re.error as error:
                raise ValueError(
                    "`layers` must be regular expressions, classes or layers. Received: "
                    f"{choice!r} ({error}). re.escape(name) matches a name literally."
                ) from error
            found = [
                each
                for each in inner
                if pattern.fullmatch(each.name) or pattern.fullmatch(each.path or each.name)
            ]
        elif isinstance(choice, type):
            found = [each for each in inner if isinstance(each, choice)]
        else:
            found = [each for each in inner if each is choice]
        if not found:
            names = ", ".join(sorted({each.name for each in inner})[:20])
            raise ValueError(
                f"`layers` must match layers of the model. Received: {choice!r}, which matches "
                f"none. Its layers are: {names}."
            )
        chosen += found
    return [each for each in inner if any(each is one for one in chosen)]


def _outermost(chosen: list[Any]) -> list[Any]:
    """Returns `chosen` without layers inside of others: they are recomputed with those."""
    within = {id(inner) for each in chosen for inner in all_layers(each) if inner is not each}
    return [each for each in chosen if id(each) not in within]


@contextlib.contextmanager
def _all_kept(layers: list[Any]) -> Iterator[None]:
    """Ends recomputation inside."""
    before = [recomputation_of(each) for each in layers]
    try:
        for each in layers:
            set_recomputed(each, False)
        yield
    finally:
        for each, mode in zip(layers, before, strict=True):
            restore_recomputation(each, mode)


def _within(model: keras.Model, inner: list[Any], budget: int, inputs: Any) -> list[Any]:
    if inputs is None:
        raise ValueError(
            "`inputs` must be given with `memory_budget`: the model's inputs of one replica batch. "
            "Received: inputs=None. Pass a tf.TensorSpec([rows, ...], dtype), or a batch."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built before a budget can be kept. Received: {model.name!r}, not "
            "built. Call model.build, or pass `layers`."
        )
    with _all_kept([model, *inner]):
        kept = kept_by_layer(model, inner, inputs)
    places = {id(each): place for place, each in enumerate(inner)}
    candidates = [
        Layer(
            place,
            frozenset(places[id(part)] for part in all_layers(each) if part is not each),
            kept.inside(place),
            kept.inputs(place),
            kept.operations(place),
        )
        for place, each in enumerate(inner)
        if kept.was_called(place)
    ]
    return [inner[place] for place in choose_within(budget, kept.sizes, candidates)]
