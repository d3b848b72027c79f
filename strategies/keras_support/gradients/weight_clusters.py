"""Clusters of weights: those of one cluster have one value, also after each update.

The value is a parameter that its weights share, so its gradient is the sum of theirs. Each weight
receives that sum, and an optimizer that works element by element moves all of them alike. What it
kept from before, such as momentum, may differ; so after each update the weights of a cluster become
their mean, and so do the moving averages of them that Keras keeps. Cluster 0 has the value zero.

Replicas have equal weights, clusters and gradients, so nothing is communicated. Replicas that step
locally have different values, and the same clusters.

Source: Han et al. 2016, arXiv:1510.00149, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.keras_support.gradients.gradient_reduce import Gradient
from strategies.keras_support.gradients.gradient_watch import judging_variable
from strategies.keras_support.gradients.ruled_weights import RuledWeights
from strategies.keras_support.model.replica_values import assign_value

Array = np.ndarray[Any, Any]


class WeightClusters(RuledWeights):
    """The clusters of some weights of a model; see `UpdateRule`.

    Args:
        model: A compiled model under a strategy of this package, its optimizer built.
        weights: Of the variables that its optimizer updates.
        num_clusters: The most clusters that a weight may have, without that of zeros.
    """

    def __init__(self, model: Any, weights: Sequence[Any], num_clusters: int) -> None:
        super().__init__(model, weights)
        self.num_clusters = num_clusters
        with self.strategy.scope():
            # TensorFlow cannot send the first value of a uint8 variable to other workers.
            self._clusters = [judging_variable(list(w.shape), "int32") for w in self.weights]

    @property
    def variables(self) -> list[Any]:
        """What the steps write: nothing, since a weight stays in its cluster."""
        return []

    @property
    def averaged(self) -> list[Any]:
        """What differs by replica in a round of local steps: nothing."""
        return []

    def clusters(self) -> list[Array]:
        """Returns the number of each weight's cluster."""
        return [self._own(variable).numpy() for variable in self._clusters]

    def assign(self, clusters: Sequence[Array]) -> None:
        """Sets the number of each weight's cluster, on all replicas; 0 is that of zeros."""
        for variable, value in zip(self._clusters, clusters, strict=True):
            assign_value(self.strategy, variable, value.astype(variable.dtype))

    def tie_weights(self) -> None:
        """Gives the weights of each cluster their mean; outside of a step."""
        for clusters, tied in self._tied():
            numbers = self._own(clusters)
            for variable in tied:
                value = self._tie(self._own(variable), numbers)
                assign_value(self.strategy, variable, value.numpy())

    def _gradient(self, optimizer: Any, place: int, gradient: Gradient) -> Gradient:
        """Returns a gradient that is summed up by cluster, and zero in that of zeros."""
        numbers = tf.cast(self._clusters[place].value, tf.int32)
        return self._spread(self._sums(tf.convert_to_tensor(gradient), numbers), numbers)

    def after_update(self, optimizer: Any) -> None:
        """Gives the weights of each cluster their mean; in replica context."""
        for clusters, tied in self._tied():
            numbers = tf.convert_to_tensor(clusters.value)
            for variable in tied:
                variable.assign(self._tie(tf.convert_to_tensor(variable.value), numbers))

    def after_round(self) -> None:
        """Does nothing: the mean over replicas of tied weights is tied."""

    def _tie(self, value: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        numbers = tf.cast(numbers, tf.int32)
        flat, by = tf.reshape(value, [-1]), tf.reshape(numbers, [-1])
        # From the smallest on: the mean of equal numbers is that number, and not a rounded sum.
        smallest = tf.math.unsorted_segment_min(flat, by, self.num_clusters + 1)
        counts = self._sums(tf.ones_like(value), numbers)
        above = self._sums(value - tf.gather(smallest, numbers), numbers)
        return self._spread(smallest + tf.math.divide_no_nan(above, counts), numbers)

    def _sums(self, value: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Returns the sum by cluster."""
        flat, by = tf.reshape(value, [-1]), tf.reshape(numbers, [-1])
        return tf.math.unsorted_segment_sum(flat, by, self.num_clusters + 1)

    def _spread(self, values: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Returns the value of each weight's cluster."""
        is_zero = tf.equal(numbers, 0)
        spread = tf.gather(values, numbers)
        return tf.where(is_zero, tf.zeros_like(spread), spread)

    def _tied(self) -> list[tuple[Any, list[Any]]]:
        """Returns the clusters of each weight with the variables that are tied by them."""
        return list(zip(self._clusters, self._with_averages(), strict=True))
