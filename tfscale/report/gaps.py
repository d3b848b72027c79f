"""Where the record of Monitor is not complete: a full disk, or a counter that could not be read."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tfscale.report import numbers
from tfscale.report.monitored import Monitored

_MOST = 20


def gaps(monitored: Monitored) -> list[str]:
    """Returns a sentence for each gap, at most 20.

    Args:
        monitored: What was read.
    """
    found = [*_late_lines(monitored), *_missing_lines(monitored), *_unread(monitored)]
    more = len(found) - _MOST
    return found[:_MOST] + ([f"and {more:,} more"] if more > 0 else [])


def _late_lines(monitored: Monitored) -> Iterator[str]:
    for index, columns in monitored.workers.items():
        values = columns.values
        for place, lines in enumerate(values.get("unwritten/lines", ())):
            if not math.isnan(lines):
                end, steps = values["position"][place], values["steps"][place]
                yield (
                    f"Worker {index} could not write from step {end - steps:,.0f} to step "
                    f"{end:,.0f}. One line has the sums of {lines:,.0f}: the time is complete, not "
                    "how it went on in between."
                )


def _missing_lines(monitored: Monitored) -> Iterator[str]:
    for index, fits in monitored.fits.items():
        for fit in fits:
            beat = fit.heartbeat or {}
            if unwritten := beat.get("unwritten"):
                first = beat["position"] - beat["steps"]
                yield (
                    f"Worker {index} could not write from step {first:,} to the end at step "
                    f"{beat['position']:,} ({unwritten.get('error')}). Its heartbeat has the time "
                    "of these steps; all else is missing."
                )


def _unread(monitored: Monitored) -> Iterator[str]:
    taken = monitored.energy
    for device, seconds in ({} if taken is None else taken.unread).items():
        yield (
            f"The energy of {device} could not be read in the last {numbers.seconds(seconds)} of a "
            "training. These do not count."
        )
