"""Stock Keras with two functions patched that keep `fit` from running on workers (C1).

C1 hides every other defect of several workers: without this patch, stock would raise the same error
in all their rows. Nothing else is changed, and nothing of tfscale is used.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer


def patch() -> None:
    """Patches this process's Keras."""
    reduce_per_replica = keras_trainer.reduce_per_replica

    def build_from_spec(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None:
            data_batch = tf.nest.map_structure(
                lambda spec: getattr(spec, "_value_specs", (spec,))[0],
                iterator._distributed_dataset.element_spec,
            )
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def reduce_scalars(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction not in ("auto", "mean"):
            return reduce_per_replica(values, strategy, reduction)
        return tf.nest.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), values)

    keras_trainer.TensorFlowTrainer._maybe_symbolic_build = build_from_spec
    keras_trainer.reduce_per_replica = reduce_scalars
