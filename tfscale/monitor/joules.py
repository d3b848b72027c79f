"""What a run took: the joules of all workers, those of a host or of a GPU counted once.

    taken = tfscale.monitor.energy("runs/first/monitor")
    print(taken)
    taken.kwh, taken.grams_co2e

It is computed from the lines of `tfscale.callbacks.Monitor(folder, energy=True)`. Workers on one
host read the same counter of its processors. So at each moment every host and every GPU counts
once, and workers that measure it at that moment share it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tfscale.monitor.lines import Fit, read_fits
from tfscale.monitor.meters import OF_PROCESS, PROCESSORS

_JOULES_OF_KWH = 3.6e6


@dataclass(frozen=True)
class Energy:
    """The energy of a run, in joules.

    Attributes:
        workers: Of each worker by its index. What workers measure together is divided evenly.
        devices: Of each device: the processors of a host, the processes of a worker if that is an
            estimate, and GPUs by their identity.
        sources: Of each device, how it is known: "rapl", "nvml" or an "estimate: ..." and its rule.
        grams_co2e: Grams of carbon dioxide and its equivalents, at the `carbon_intensity` of
            Monitor; None if it was not given at every start.
        unread: Of each device whose counter could not be read until the end of a `fit`: the seconds
            there that do not count.
    """

    workers: Mapping[int, float]
    devices: Mapping[str, float]
    sources: Mapping[str, str]
    grams_co2e: float | None
    unread: Mapping[str, float] = field(default_factory=dict)

    @property
    def joules(self) -> float:
        """Of the whole run."""
        return sum(self.devices.values())

    @property
    def kwh(self) -> float:
        """Kilowatt-hours of the whole run."""
        return self.joules / _JOULES_OF_KWH

    def __str__(self) -> str:
        """Returns a table of workers and devices."""
        grams = "" if self.grams_co2e is None else f", {self.grams_co2e:,.3g} g CO2e"
        rows = [f"{self.joules:,.1f} J, {self.kwh:,.3g} kWh{grams}"]
        rows += [
            f"worker {worker:<13}{joules:>14,.1f} J" for worker, joules in self.workers.items()
        ]
        for device, joules in self.devices.items():
            rows.append(f"{device:<20}{joules:>14,.1f} J, {self.sources[device]}")
        for device, seconds in self.unread.items():
            rows.append(f"{device:<20}{seconds:>14,.1f} s not counted: it could not be read")
        return "\n".join(rows)


class _Reading(NamedTuple):
    """What a worker has read between two moments on its host's clock."""

    begin: float
    end: float
    worker: int
    joules: float
    grams: float | None


def energy(folder: str | os.PathLike[str]) -> Energy:
    """Sums the energy of a run and its restarts, from the files of Monitor.

    Counted is the time from the beginning of each `fit` to its newest line.

    Args:
        folder: The folder that was passed to `tfscale.callbacks.Monitor`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If `folder` contains no files of Monitor, a damaged one, or none with energy.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        >>> monitor = tfscale.callbacks.Monitor(
        ...     folder, energy=True, processor_watts=10, carbon_intensity=50
        ... )
        >>> history = model.fit(rows, targets, callbacks=[monitor], verbose=0)
        >>> taken = energy(folder)
        >>> taken.joules > 0, round(taken.grams_co2e / taken.kwh, 6)
        (True, 50.0)
    """
    readings: dict[tuple[str, str], list[_Reading]] = defaultdict(list)
    sources: dict[str, str] = {}
    unread: dict[str, float] = defaultdict(float)
    for worker, fits in read_fits(Path(folder)).items():
        for fit in fits:
            for device, seconds in _unread(worker, fit):
                unread[device] += seconds
            for host, device, source, reading in _readings(worker, fit):
                readings[host, device].append(reading)
                sources[device] = source
    if not readings:
        raise ValueError(
            f"`folder` must contain lines with energy. Received: folder={str(folder)!r}, without. "
            "Train with tfscale.callbacks.Monitor(folder, energy=True)."
        )
    workers: dict[int, float] = defaultdict(float)
    devices: dict[str, float] = defaultdict(float)
    grams: float | None = 0.0
    for (_, device), own in readings.items():
        of_worker, of_grams = _once(own)
        devices[device] += sum(of_worker.values())
        for worker, joules in of_worker.items():
            workers[worker] += joules
        grams = None if grams is None or of_grams is None else grams + of_grams
    return Energy(
        dict(sorted(workers.items())), dict(sorted(devices.items())), sources, grams, dict(unread)
    )


def _readings(worker: int, fit: Fit) -> Iterator[tuple[str, str, str, _Reading]]:
    """Yields the start of the host, the device, its source, and what was read of it."""
    host, boot = fit.begin.get("host") or "this host", fit.begin.get("boot")
    intensity = fit.begin.get("carbon_intensity")
    before: dict[str, float] = {}  # what could not be read is in the next reading of the device
    for window in fit.windows:
        for device, taken in window.get("energy", {}).items():
            joules, source = taken["joules"], taken["source"]
            name = _named(device, worker, host, is_of_process=source == OF_PROCESS)
            grams = None if intensity is None else intensity * joules / _JOULES_OF_KWH
            since = before.get(device, fit.begin["clock"])
            yield (
                boot or host,
                name,
                source,
                _Reading(since, window["clock"], worker, joules, grams),
            )
        before.update(dict.fromkeys(window.get("energy", {}), window["clock"]))


def _unread(worker: int, fit: Fit) -> Iterator[tuple[str, float]]:
    """Yields the devices that could not be read when a `fit` ended, and for how long."""
    host = fit.begin.get("host") or "this host"
    for window in fit.windows[-1:]:
        for device, seconds in window.get("energy_unread", {}).items():
            yield _named(device, worker, host, is_of_process=False), seconds


def _named(device: str, worker: int, host: str, *, is_of_process: bool) -> str:
    if device != PROCESSORS:
        return device
    return f"worker {worker} on {host}" if is_of_process else host


def _once(readings: Sequence[_Reading]) -> tuple[dict[int, float], float | None]:
    """Returns the joules of one counter by worker, and its grams.

    Where several readings overlap, their mean counts, in equal parts for their workers.
    """
    workers: dict[int, float] = defaultdict(float)
    is_known = all(reading.grams is not None for reading in readings)
    grams, active, since = 0.0, set[int](), 0.0
    moments = [(reading.begin, True, place) for place, reading in enumerate(readings)]
    moments += [(reading.end, False, place) for place, reading in enumerate(readings)]
    for moment, begins, place in sorted(moments):
        for each in active:
            reading = readings[each]
            part = (moment - since) / (reading.end - reading.begin) / len(active)
            workers[reading.worker] += part * reading.joules
            grams += part * (reading.grams or 0.0)
        since = moment
        if begins and readings[place].end > readings[place].begin:
            active.add(place)
        else:
            active.discard(place)
    return workers, grams if is_known else None
