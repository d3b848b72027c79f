"""Models whose weights cannot be changed in the step, most because a replica lacks some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strategies.extension import (
    all_layers,
    divided_weights,
    is_asynchronous,
    pipeline_of,
    refuse_model_outside,
    stage_of,
)
from tfscale.preparation.model_copy import value_of


def refuse_unready(model: Any, user: str) -> None:
    """Checks that weights can be changed in the step, when training begins.

    Args:
        model: A compiled model.
        user: The callback that changes them, such as "Prune".

    Raises:
        ValueError: If the model is not under a strategy of this package, is a pipeline, its layers
            are divided, its strategy shards or has parameter servers, or it is not built.
    """
    refuse_model_outside(model, user)
    _refuse_divided(model, user)
    if not model.optimizer.built:
        raise ValueError(
            f"`model` must be built before training for {user}. Received: model {model.name!r}, "
            "which Keras cannot build automatically. Call it once on a batch, and "
            "model.optimizer.build(model.trainable_variables)."
        )


def refuse_not_finite(weights: Sequence[Any], user: str) -> None:
    """Checks that weights can be compared with each other.

    Args:
        weights: Of a model.
        user: What compares them, such as "Prune".

    Raises:
        ValueError: If one has an element that is not finite.
    """
    for weight in weights:
        if not np.isfinite(value_of(weight).astype("float64")).all():
            raise ValueError(
                f"`model` must have finite weights for {user}. Received: {weight.path!r}, which "
                "has NaN or inf. Restore weights from before it diverged."
            )


def _refuse_divided(model: Any, user: str) -> None:
    """Checks that each replica has the whole of every weight and slot."""
    strategy = model.distribute_strategy
    if is_asynchronous(strategy):
        raise _refused(
            user,
            "a parameter server strategy, whose workers update weights at different times",
            "Shrink the model under strategies.mirrored_strategy() or on one device",
        )
    if stage := stage_of(strategy):
        raise _refused(
            user,
            f"a strategy with shard={stage}, whose replicas update parts of the weights",
            "Build the strategy with shard=0",
        )
    if pipeline_of(model) is not None:
        raise _refused(
            user,
            "a pipeline, whose stages are on different devices",
            "Shrink the model without Pipeline",
        )
    if divided_weights(all_layers(model)):
        raise _refused(
            user,
            "a model with layers divided by tensor_parallel",
            "Shrink the whole model: see tfscale.parallel.whole",
        )


def _refused(user: str, received: str, cure: str) -> ValueError:
    return ValueError(
        f"`callbacks` must not contain {user} unless each replica has whole weights. Received: "
        f"{received}. {cure}."
    )
