"""Sources that are made of others: filtered, mixed, packed, and bucketed by length."""

from tfscale.data.composition.bucketing import bucketed
from tfscale.data.composition.filters import filtered
from tfscale.data.composition.mixtures import mixture
from tfscale.data.composition.packing import packed

__all__ = ["bucketed", "filtered", "mixture", "packed"]
