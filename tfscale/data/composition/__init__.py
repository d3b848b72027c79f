"""Sources that are made of others: filtered, mapped, mixed, packed, and bucketed by length."""

from tfscale.data.composition.bucketing import bucketed
from tfscale.data.composition.filters import filtered
from tfscale.data.composition.mapping import mapped
from tfscale.data.composition.mixtures import mixture
from tfscale.data.composition.packing import packed

__all__ = ["bucketed", "filtered", "mapped", "mixture", "packed"]
