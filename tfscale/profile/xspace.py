"""What TensorFlow's profiler has recorded, as rows of events.

The profiler writes an XSpace (tensorflow/tsl/profiler/protobuf/xplane.proto): planes of lines of
events. Times of its lines are relative to the start of the profile, which a plane of its own has.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

_ENVIRONMENT, _START = "Task Environment", "profile_start_time"
_DEVICE = "/device:"


class Event(NamedTuple):
    """Something that took time.

    Attributes:
        name: What it was.
        start: Nanoseconds since the epoch, on the clock of `time.time_ns`.
        duration: Nanoseconds.
    """

    name: str
    start: int
    duration: int


class Row(NamedTuple):
    """The events of a thread, or of a stream of a device.

    Attributes:
        name: For people; unique in a process.
        events: By their start; an outer one before those inside of it.
    """

    name: str
    events: list[Event]


def rows_of(content: bytes) -> list[Row]:
    """Reads an XSpace.

    Args:
        content: Of an `.xplane.pb` file.

    Returns:
        The rows that have events; events without a duration are left out.

    Raises:
        ValueError: If it is not one, or does not say when it began.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    try:
        space = xplane_pb2.XSpace.FromString(content)
    except DecodeError as error:
        raise ValueError(f"The profile cannot be read: {error}.") from error
    began = next((_stats(plane).get(_START) for plane in space.planes if _is_start(plane)), None)
    if began is None:
        raise ValueError(
            "The profile must have the time of its start, in the plane 'Task Environment'. "
            f"Received: planes {[plane.name for plane in space.planes]}. Use a TensorFlow that "
            "tfscale supports."
        )
    rows, names = [], Counter[str]()
    for plane in space.planes:
        for line in plane.lines:
            events = [
                Event(
                    _name(plane.event_metadata[event.metadata_id]),
                    began + line.timestamp_ns + event.offset_ps // 1000,
                    event.duration_ps // 1000,
                )
                for event in line.events
                if event.duration_ps >= 1000
            ]
            if events:
                name = _row_name(plane.name, line)
                names[name] += 1
                number = "" if names[name] == 1 else f" {names[name]}"
                events.sort(key=lambda event: (event.start, -event.duration))
                rows.append(Row(name + number, events))
    return rows


def _is_start(plane: Any) -> bool:
    return bool(plane.name == _ENVIRONMENT) and _START in _stats(plane)


def _stats(plane: Any) -> dict[str, int]:
    return {plane.stat_metadata[each.metadata_id].name: each.uint64_value for each in plane.stats}


def _name(metadata: Any) -> str:
    return str(metadata.display_name or metadata.name)


def _row_name(plane: str, line: Any) -> str:
    """Returns "tf_Compute" for the line "tf_Compute/8247303781113793520" of the host."""
    name = str(line.display_name or line.name)
    head, _, number = name.rpartition("/")
    if head and number.lstrip("-").isdecimal():
        name = head
    return f"{plane.removeprefix(_DEVICE)} {name}" if plane.startswith(_DEVICE) else name
