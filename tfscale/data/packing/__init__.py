"""Packed sets: examples of any source in a few large files, with a manifest."""

from tfscale.data.packing.packed_source import PackedSource, shards
from tfscale.data.packing.writing import pack

__all__ = ["PackedSource", "pack", "shards"]
