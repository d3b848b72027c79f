"""Norms of the gradient, of weights and of their updates by layer, measured inside of the step."""

from __future__ import annotations

import math
from typing import Any

from strategies.extension import (
    UpdateNorms,
    all_layers,
    is_divided,
    pipeline_of,
    stage_of,
    trace_step_again,
)


class LayerNorms:
    """Norms of the newest step of a model, by layer.

    Args:
        model: A compiled model under a strategy of this package, as training begins.

    Raises:
        ValueError: If the model is not built, or a replica has only parts of its weights.
    """

    def __init__(self, model: Any) -> None:
        _refuse_parts(model)
        self._model = model
        self._norms = UpdateNorms(model)
        self._norms.attach()
        trace_step_again(model)

    def end(self) -> None:
        """Leaves the model as it was."""
        self._norms.detach()
        trace_step_again(self._model)

    def record(self) -> dict[str, Any]:
        """Returns the values of a line; waits until the newest step is done.

        Returns:
            "gradient_norm" of all weights together, and "layers": by the path of a layer
            "gradient_norm", "weight_norm" and "update_ratio", the norm of the update divided by
            that of the weights before it. The ratio is None where the weights were zero.
        """
        squares: dict[str, list[float]] = {}
        for path, *norms in self._norms.values():
            layer = path.rpartition("/")[0] or path
            sums = squares.setdefault(layer, [0.0, 0.0, 0.0])
            for place, norm in enumerate(norms):
                sums[place] += norm**2
        return {
            "gradient_norm": math.sqrt(sum(sums[0] for sums in squares.values())),
            "layers": {
                layer: {
                    "gradient_norm": math.sqrt(gradient),
                    "weight_norm": math.sqrt(weight),
                    "update_ratio": math.sqrt(update / weight) if weight > 0 else None,
                }
                for layer, (gradient, weight, update) in squares.items()
            },
        }


def _refuse_parts(model: Any) -> None:
    strategy = model.distribute_strategy
    parts = ""
    if stage := stage_of(strategy):
        parts = f"shard={stage}"
    elif pipeline_of(model) is not None:
        parts = "a pipeline"
    elif any(map(is_divided, all_layers(model))):
        parts = "layers that several devices share"
    if parts:
        raise ValueError(
            "`norms` must be False where a replica has only parts of the weights or updates. "
            f"Received: norms=True with {parts}. Leave it out."
        )
    if not model.optimizer.built:
        raise ValueError(
            "`model` must be built before training for norms=True. Received: model "
            f"{model.name!r}, which Keras cannot build automatically. Call it once on a batch, and "
            "model.optimizer.build(model.trainable_variables)."
        )
