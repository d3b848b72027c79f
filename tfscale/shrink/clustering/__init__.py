"""Clustering: weights that share a few values."""

from tfscale.shrink.clustering.cluster import Cluster

__all__ = ["Cluster"]
