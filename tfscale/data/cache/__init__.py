"""Decoded examples, kept in memory or in a folder."""

from tfscale.data.cache.cached_source import cached

__all__ = ["cached"]
