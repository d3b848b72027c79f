"""The Cluster callback: weights share a few values, which are fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import (
    WeightClusters,
    sequence,
    trace_step_again,
    whole_number,
)
from tfscale.checkpoints import schema
from tfscale.shrink.clustering.codebooks import clustered
from tfscale.shrink.pruning.masking import Masking
from tfscale.shrink.pruning.patterns import UNSTRUCTURED, Pattern
from tfscale.shrink.pruning.weights import checked_expression, chosen_weights
from tfscale.shrink.refusals import refuse_not_finite, refuse_unready

_MOST_CLUSTERS = 65535


class Cluster(keras.callbacks.Callback):
    """Lets the weights of a layer share a few values, which training goes on to tune.

    When training begins, the numbers of each kernel become the nearest of `num_clusters` values, by
    k-means. A weight stays in its cluster; the value of a cluster is trained by the sum of the
    gradients of its weights. Weights that are zero stay zero, so a pruned model stays pruned. With
    16 values a compressed file needs less than 4 bits for a weight.

    Use it on a trained model, with a small learning rate: a sum of many gradients is large. It is
    part of the step, so `steps_per_execution`, moving averages of weights and several replicas give
    the result of one device. The model stays a plain Keras model. A later `fit` with the same
    callback continues; one without it lets the values drift apart. A weight that has no more values
    than `num_clusters` already, such as one that was clustered before, keeps them.

    Clustered are the kernels that `Prune` prunes; also those inside of a model from
    `quantization_aware`.

    Args:
        num_clusters: The most values of a weight besides zero, from 1 to 65,535.
        keep: Regular expressions of what is not clustered, which match the whole path of a weight,
            or the whole path or name of its layer.

    Raises:
        ValueError: If an argument is invalid. When training begins, if the model is not built or
            not under a tfscale strategy, its weights or slots are divided over devices or on
            parameter servers, an expression matches nothing, nothing would be clustered, or a
            weight is not finite.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> keras.utils.set_random_seed(0)
        >>> with strategy.scope():
        ...     layers = [keras.Input((1,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile("adam", "mse")
        >>> cluster = Cluster(4)
        >>> history = model.fit(rows, targets, callbacks=[cluster], verbose=0)
        >>> [len(values) for values in cluster.codebooks().values()]
        [4, 4]

    Source: Han et al. 2016, arXiv:1510.00149, section 3.
    """

    needs_every_worker = True  # all workers must cluster the same weights

    def __init__(self, num_clusters: int, *, keep: Sequence[str] = ()) -> None:
        super().__init__()
        self.num_clusters = whole_number("num_clusters", num_clusters, below=_MOST_CLUSTERS + 1)
        self.keep = [checked_expression("keep", each) for each in sequence("keep", keep)]
        self._clusters: WeightClusters | None = None

    def codebooks(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the values of each clustered weight besides zero, ascending, by path."""
        if self._clusters is None:
            return {}
        values = {w.path: np.unique(keras.ops.convert_to_numpy(w)) for w in self._clusters.weights}
        return {path: each[each != 0] for path, each in values.items()}

    def state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, besides `state_arrays`: how many values there are."""
        return {"num_clusters": self.num_clusters}

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the cluster of each weight for a checkpoint, by name."""
        assert self._clusters is not None
        return {f"clusters/{i}": each for i, each in enumerate(self._clusters.clusters())}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError: If it is malformed, or of another number of clusters.
        """
        schema.record(state, "state", ("num_clusters",))
        stored = schema.integer(state["num_clusters"], "state.num_clusters")
        if stored != self.num_clusters:
            raise ValueError(
                "`num_clusters` must be that of the checkpointed run. Received: "
                f"num_clusters={self.num_clusters}; in the checkpoint {stored}. Pass that number."
            )

    def restore_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restores what `state_arrays` returned.

        Raises:
            ValueError: If the arrays are those of other weights.
        """
        assert self._clusters is not None
        described = [
            {name: (array.dtype.name, array.shape) for name, array in each.items()}
            for each in (self.state_arrays(), arrays)
        ]
        if described[0] != described[1]:
            raise ValueError(
                "`Cluster` must cluster the weights that it clustered in the checkpointed run. "
                f"Received: {len(described[0])} weights; in the checkpoint, arrays "
                f"{sorted(arrays)[:6]}. Pass the same arguments."
            )
        self._clusters.assign([arrays[name] for name in described[0]])

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Refuses a second callback of this kind, and pruning in the same fit."""
        others = [each for each in callbacks if isinstance(each, Cluster | Masking)]
        if len(others) > 1:
            raise ValueError(
                "`callbacks` must contain one Cluster, and no Prune or KeepZeros. Received: "
                f"{', '.join(type(each).__name__ for each in others)}. Prune in an earlier fit: "
                "Cluster keeps zeros."
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Clusters the weights, or raises an error if those of the model cannot be clustered."""
        model = self.model
        refuse_unready(model, "Cluster")
        if self._clusters is None or not self._clusters.is_of(model):
            self._clusters = self._new_clusters()
        self._clusters.tie_weights()
        self._clusters.attach()
        trace_step_again(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends clustering, of weights that another callback may have restored too."""
        assert self._clusters is not None
        self._clusters.tie_weights()
        self._clusters.detach()
        trace_step_again(self.model)

    def _new_clusters(self) -> WeightClusters:
        """Finds clusters for the weights of the model's optimizer."""
        chosen = chosen_weights(
            self.model, Pattern.named(UNSTRUCTURED), 1.0, {}, self.keep, is_global=False
        )
        weights = [each.variable for each in chosen]
        refuse_not_finite(weights, "Cluster")
        clusters = WeightClusters(self.model, weights, self.num_clusters)
        clusters.assign(
            [clustered(keras.ops.convert_to_numpy(w), self.num_clusters)[1] for w in weights]
        )
        return clusters
