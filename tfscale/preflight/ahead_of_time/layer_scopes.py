"""In which scope of a traced step each Keras layer is called.

TensorFlow numbers the second use of a name in a graph, and Keras uses a layer's name twice: layer
`conv2d` is called in the scope `conv2d_1`, which is also another layer's name. So the scope that a
layer is called in is noted while the step is traced, and not guessed from the name.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def layer_scopes(layers: list[Any]) -> Iterator[dict[str, str]]:
    """Notes, while a step is traced, in which scopes layers are called.

    Args:
        layers: Keras layers of the model.

    Yields:
        A dictionary from scope to the layer's path, filled as layers are called. A layer that was
        never built has no path, and goes by its name.
    """
    scopes: dict[str, str] = {}

    def noting(layer: Any, call: Any) -> Any:
        @functools.wraps(call)
        def noted(*args: Any, **kwargs: Any) -> Any:
            scope = tf.get_current_name_scope()
            if scope:
                scopes.setdefault(scope, layer.path or layer.name)
            return call(*args, **kwargs)

        return noted

    held = {id(layer): (layer, vars(layer).get("call")) for layer in layers}
    for layer, _ in held.values():
        layer.call = noting(layer, layer.call)
    try:
        yield scopes
    finally:
        for layer, own in held.values():
            if own is None:
                del layer.call
            else:
                layer.call = own
