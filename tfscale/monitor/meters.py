"""What measures the energy of a worker, and of the others on its host."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strategies.extension import announce
from tfscale.monitor.gpus import visible_gpus
from tfscale.monitor.powercap import Powercap

PROCESSORS = "processors"
OF_PROCESS = "estimate: watts times processor time"
"""The only source that is of a process, and not of a host or a GPU that others use too."""


class Meters:
    """Reads joules: of the GPUs of this process, and of the processors.

    Args:
        processor_watts: What a processor takes while it is busy, for an estimate where the
            processors' counter cannot be read; None for no estimate.
        root: Folder with `sys`.

    Raises:
        ValueError: If GPUs, or without GPUs the processors, cannot be measured.
    """

    def __init__(self, processor_watts: float | None, root: Path = Path("/")) -> None:
        self._gpus = visible_gpus()
        self._began = time.monotonic()
        self._read_at: dict[str, float] = {}
        self._announced: set[str] = set()
        self._processors: Callable[[], float]
        try:
            self._processors, self._source = Powercap(root).joules, "rapl"
        except OSError as error:
            if processor_watts is not None:
                self._processors, self._source = _Estimate(processor_watts).joules, OF_PROCESS
            elif self._gpus is None:
                raise ValueError(
                    "`energy` must have something to measure. Received: energy=True, and "
                    f"{error}. Run as root where processors have a counter, or give "
                    "processor_watts=, what a processor takes while it is busy, for an estimate."
                ) from error
            else:
                announce(f"Monitor counts the energy of GPUs only: {error}.")
                self._source = ""

    def read(self) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
        """Returns the joules and their source, by device, and for how long a device is unread.

        A counter that cannot be read does not end the training. It is said once, and read again
        with each call: the first one that succeeds has the joules since it was last read.

        Returns:
            By device, the joules since it was last read, and their source; and of each device that
            cannot be read the seconds since it was.
        """
        found = {} if self._gpus is None else self._gpus.read()
        errors = {} if self._gpus is None else dict(self._gpus.errors)
        if self._source:
            try:
                found[PROCESSORS] = {"joules": self._processors(), "source": self._source}
            except OSError as error:
                errors[PROCESSORS] = str(error)
        now = time.monotonic()
        self._read_at.update(dict.fromkeys(found, now))
        for device, words in errors.items():
            if device not in self._announced:
                announce(
                    f"Monitor cannot read the energy of {device}: {words}. Training goes on. Until "
                    "it can be read again, lines have no joules of it."
                )
        self._announced = set(errors)
        began = self._began
        return found, {device: now - self._read_at.get(device, began) for device in errors}


class _Estimate:
    """Watts times the seconds in which processors were busy with this process."""

    def __init__(self, watts: float) -> None:
        self._watts = watts
        self._before = time.process_time()

    def joules(self) -> float:
        """Returns the joules since the last call."""
        now = time.process_time()
        taken, self._before = self._watts * (now - self._before), now
        return taken
