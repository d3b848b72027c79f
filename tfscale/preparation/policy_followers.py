"""Which layers of a model follow the global dtype policy, and which were given their own.

A layer made without `dtype` holds the very object that was the global policy then, so all of them
share it; one made with `dtype="float32"` holds an object of its own. A file does not keep the
difference: there, the layers that have the commonest policy count as following.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras

from strategies.extension import all_layers, direct_layers, names_dtype


def policy_followers(model: keras.Model) -> list[Any]:
    """Returns the layers of `model`, at any depth and itself included, that follow the policy.

    Inside a layer that follows, so does every layer that shares its policy object. A layer with an
    own policy keeps it with all that it holds. Input layers have a dtype and no policy.

    Args:
        model: A model; it may hold other models, made or loaded on their own.

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
    """Yields those of one model's own layers, but not of the models that it holds."""
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
    """Returns the objects that are a global policy, as it shows: none for a loaded model.

    Keras never loads what holds its container's own object; so one layer that does, be it in an
    inner model, shows that the container was not loaded.
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
    # Made while another object was in force, which then has several holders.
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
    # Bidirectional trains copies of the layer it was given: what that one was given is lost.
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
    """Tells whether a layer's policy can be the global one: neither a map nor a quantized one."""
    return type(layer.dtype_policy) is keras.DTypePolicy
