"""What a program asks TensorFlow's allocator of CPUs for, from the events that it records.

The allocator's own counters are in blocks: one is taken whole if it is less than twice as large as
what was asked for, so they depend on which blocks happened to be free.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

_EVENTS = {"MemoryAllocation": 1, "MemoryDeallocation": -1}
_DETAIL = 2
"""Of the profiler's host events: those of allocators have this level."""


@dataclass
class Peak:
    """The largest growth while something ran.

    Attributes:
        requested: Bytes that were asked for.
        blocks: Bytes of the blocks that were taken for them.
    """

    requested: int = 0
    blocks: int = 0


@contextlib.contextmanager
def recorded_peak() -> Iterator[Peak]:
    """Yields a `Peak` that is filled at the end.

    The variable TF_CPU_ALLOCATOR_USE_BFC must be "true" before TensorFlow is imported.
    """
    peak = Peak()
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=_DETAIL)
        tf.profiler.experimental.start(folder, options)
        try:
            yield peak
        finally:
            tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    requested = blocks = 0
    for _, sign, values in sorted(_memory_events(space), key=lambda event: event[0]):
        requested += sign * int(values["requested_bytes"])
        blocks += sign * int(values["allocation_bytes"])
        peak.requested = max(peak.requested, requested)
        peak.blocks = max(peak.blocks, blocks)


def _memory_events(space: Any) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yields time, 1 or -1, and values of each event."""
    for plane in space.planes:
        names = {number: each.name for number, each in plane.event_metadata.items()}
        keys = {number: each.name for number, each in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                sign = _EVENTS.get(names[event.metadata_id])
                if sign is not None:
                    values = {
                        keys[stat.metadata_id]: getattr(stat, stat.WhichOneof("value"))
                        for stat in event.stats
                    }
                    yield line.timestamp_ns * 1000 + event.offset_ps, sign, values
