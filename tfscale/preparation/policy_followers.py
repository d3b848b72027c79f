"""Finds the layers of a model that follow the global dtype policy, not one of their own.

A layer that was made without `dtype` refers to the global policy object of that time, so all such
layers share one object. A layer made with `dtype="float32"` has a separate object. A saved file
does not keep this difference; there, layers with the most common policy count as following.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras

from strategies.extension import all_layers, direct_layers, names_dtype


def policy_followers(model: keras.Model) -> list[Any]:
    """Returns the layers of `model`, at any depth and including itself, that follow the policy.

    Inside a following layer, every layer with the same policy object follows too. A layer with its
    own policy keeps it, including all layers inside it. Input layers have a dtype but no policy.

    Args:
        model: A model. It may contain other models that were made or loaded separately.

    Example:
        >>> kept = keras.layers.Dense(1, dtype="float32")
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(3), kept])
        >>> [type(layer).__name__ for layer in policy_followers(model)]
        ['Sequential', 'Dense']
    """
    found: dict[int, Any] = {}
    for container in all_layers(model):
        if isinstance(container, keras.Model):
            found.update({id(layer): layer for layer in _followers_in(container)})
    return list(found.values())


def _followers_in(container: keras.Model) -> Iterator[Any]:
    """Yields the followers among a model's own layers, without those of inner models."""
    layers = _own_layers(container)
    shared = _shared_policies(container, layers)
    if shared:
        following = [layer for layer in layers if _is_one_of(layer.dtype_policy, shared)]
    else:  # loaded
        unnamed = [layer for layer in layers if _is_plain(layer) and not names_dtype(layer)]
        names = Counter(layer.dtype_policy.name for layer in unnamed)
        commonest = names.most_common(1)[0][0] if names else None  # the first, of two as common
        following = [layer for layer in unnamed if layer.dtype_policy.name == commonest]
    if not following or container.dtype_policy.name == following[0].dtype_policy.name:
        yield container
    for layer in following:
        yield layer
        yield from _followers_inside(layer, is_known=bool(shared))


def _shared_policies(container: keras.Model, layers: list[Any]) -> list[Any]:
    """Returns the policy objects that were the global policy, or none for a loaded model.

    In a loaded model no layer shares its container's policy object. So a layer that does, even in
    an inner model, shows that the container was not loaded.
    """
    known = [container.dtype_policy, keras.config.dtype_policy()]
    witnesses = [
        layer
        for inner in all_layers(container)
        if isinstance(inner, keras.Model) and getattr(inner, "outputs", None)
        for layer in _own_layers(inner)
    ]
    if any(_is_one_of(layer.dtype_policy, known) for layer in [*layers, *witnesses]):
        return known
    # The model was made under another global policy object, which several layers share.
    policies = [layer.dtype_policy for layer in layers if _is_plain(layer)]
    return [one for one in policies if sum(one is other for other in policies) > 1]


def _own_layers(container: keras.Model) -> list[Any]:
    return [
        layer
        for layer in direct_layers(container)
        if not isinstance(layer, keras.Model | keras.layers.InputLayer)
    ]


def _is_one_of(policy: Any, known: list[Any]) -> bool:
    return any(policy is one for one in known)


def _followers_inside(layer: Any, is_known: bool) -> Iterator[Any]:
    # Bidirectional trains copies of its layer, which do not share the layer's policy object.
    by_name = not is_known or isinstance(layer, keras.layers.Bidirectional)
    for inner in direct_layers(layer):
        own, outer = inner.dtype_policy, layer.dtype_policy
        if isinstance(inner, keras.Model) or not (
            own is outer or (by_name and own.name == outer.name)
        ):
            continue
        yield inner
        yield from _followers_inside(inner, is_known=not by_name)


def _is_plain(layer: Any) -> bool:
    """Returns whether a layer's policy can be the global one: neither a map nor quantized."""
    return type(layer.dtype_policy) is keras.DTypePolicy
