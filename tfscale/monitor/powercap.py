"""The energy of a host's processors, which the kernel counts: Intel's and AMD's RAPL.

    /sys/class/powercap/intel-rapl:0/{name,energy_uj,max_energy_range_uj}      a package
    /sys/class/powercap/intel-rapl:0:0/...                                     a part of it

AMD's processors appear under the same name. Counted are packages and the memory beside them. Cores
and graphics are parts of a package, and "psys" (the whole platform) contains packages. The counter
is one of the host: every process on it reads the same joules.

Source: https://docs.kernel.org/power/powercap/powercap.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = "sys/class/powercap"
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")


@dataclass
class _Zone:
    path: Path
    largest: int
    before: int


class Powercap:
    """Reads the joules of a host's processors.

    Args:
        root: Folder with `sys`.

    Raises:
        OSError: If there is no counter, or it cannot be read: since Linux 5.10 only root can.

    Example:
        >>> (folder / "sys/class/powercap/intel-rapl:0").mkdir(parents=True)
        >>> for name, text in (("name", "package-0"), ("max_energy_range_uj", "9000000")):
        ...     _ = (folder / "sys/class/powercap/intel-rapl:0" / name).write_text(text)
        >>> counter = folder / "sys/class/powercap/intel-rapl:0/energy_uj"
        >>> _ = counter.write_text("8000000")
        >>> processors = Powercap(folder)
        >>> _ = counter.write_text("500000")  # it began again at 0
        >>> processors.joules()
        1.5
    """

    def __init__(self, root: Path = Path("/")) -> None:
        folder = root / FOLDER
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        self._zones = [
            _Zone(path, _number(path / "max_energy_range_uj"), _number(path / "energy_uj"))
            for path in paths
            if _is_counted(path)
        ]
        if not self._zones:
            raise FileNotFoundError(f"{folder} has no counter of a processor's energy")

    def joules(self) -> float:
        """Returns the joules since the last call, or since this began.

        A counter begins again at 0 after `max_energy_range_uj`, every quarter of an hour or later,
        so call it more often than that.

        Raises:
            OSError: If one cannot be read. The next call has these joules too.
        """
        found = 0
        read = [_number(zone.path / "energy_uj") for zone in self._zones]
        for zone, now in zip(self._zones, read, strict=True):
            found += now - zone.before + (zone.largest if now < zone.before else 0)
            zone.before = now
        return found / 1e6


def _is_counted(path: Path) -> bool:
    match = _ZONE.fullmatch(path.name)
    if match is None:
        return False
    name = (path / "name").read_text("ascii").strip()
    return name == "dram" if match[1] else name.startswith("package")


def _number(path: Path) -> int:
    text = path.read_text("ascii").strip()
    if not text.isdecimal():
        raise OSError(f"{path} contains {text[:40]!r}, not a number of microjoules")
    return int(text)
