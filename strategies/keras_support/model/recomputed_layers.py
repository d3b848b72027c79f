"""Which layers of a model keep only their inputs for the backward pass; see `recomputation`.

Keras sets a layer's mode when the layer is made inside a `keras.RematScope`, and looks at it in
`Layer.rematerialized_call`, which calls `keras.remat`. Here it is set on layers that exist. It is
in no config: a file does not record it.
"""

from __future__ import annotations

from typing import Any

import keras

from strategies.keras_support.patching.needs import Need, require


def set_recomputed(layer: Any, chosen: bool) -> None:
    """Lets `layer` recompute what is inside it, or keep it.

    Raises:
        RuntimeError: If this release of Keras recomputes in another way.
    """
    require(Need.RECOMPUTATION)
    layer._remat_mode = _full_mode() if chosen else None


def recomputation_of(layer: Any) -> Any:
    """Returns how `layer` recomputes, for `restore_recomputation`; None if it does not."""
    return layer._remat_mode


def restore_recomputation(layer: Any, mode: Any) -> None:
    """Lets a layer, or its copy, recompute as another does.

    Args:
        layer: A layer.
        mode: From `recomputation_of`.
    """
    layer._remat_mode = mode


def _full_mode() -> Any:
    with keras.RematScope("full"):
        return keras.layers.Identity()._remat_mode
