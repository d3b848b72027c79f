"""The build seam: a model is built from the specification of its input, never from a batch.

Keras pulls a batch to learn the shapes: it averages the replicas' parts, which fails for strings
(C6), uneven parts (C5) and several workers (C1), and the batches an iterator had read ahead are
lost with it (S6). A data set knows its shapes.
"""

from __future__ import annotations

import functools
from typing import Any

from strategies.batch_parts import without_wrapper_specs
from strategies.keras_support.ownership import is_owned
from strategies.keras_support.refusals import refuse_impossible
from strategies.keras_support.seam import Seam


def _build_from_spec(maybe_symbolic_build: Any) -> Any:
    @functools.wraps(maybe_symbolic_build)
    def build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if not is_owned(self._distribute_strategy):
            maybe_symbolic_build(self, iterator=iterator, data_batch=data_batch)
            return
        refuse_impossible(self)  # Keras builds the optimizer here, and says less
        if iterator is not None:
            data_batch = without_wrapper_specs(iterator.replica_spec())
        with self._distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    return build


BUILD = Seam(
    "keras.src.backend.tensorflow.trainer:TensorFlowTrainer._maybe_symbolic_build",
    frozenset({"c84d306abf31"}),
    _build_from_spec,
)
