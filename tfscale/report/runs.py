"""The folders that `tfscale report` is given, as runs with names that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfscale.report.directory import read_directory, record_files
from tfscale.report.monitored import Monitored, monitor_folders, read_monitor
from tfscale.report.record import RunRecord

_MOST_MONITORS = 8


@dataclass(frozen=True)
class Run:
    """A folder of a run.

    Attributes:
        name: As much of the end of its path as tells it from the other runs.
        folder: The folder.
        record: What the run wrote about itself.
        monitors: What `tfscale.callbacks.Monitor` left in the folder or below it.
    """

    name: str
    folder: Path
    record: RunRecord
    monitors: Sequence[Monitored]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads folders of runs.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If one is not the folder of a run, or is there twice.
    """
    places = [folder.resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ValueError(
                "`RUN_DIR` must be different folders. Received: "
                f"RUN_DIR={str(folders[number])!r} twice. Give each run once."
            )
    runs = []
    for name, folder in zip(names(places), folders, strict=True):
        try:
            runs.append(Run(name, folder, *_read(folder)))
        except ValueError as error:
            if len(folders) == 1 or str(folder) in str(error):
                raise
            raise ValueError(f"{folder}: {error}") from error
    return runs


def names(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that differ, such as "a/run" and "b/run".

    Args:
        folders: Different absolute paths.

    Example:
        >>> names([Path("/x/a/run"), Path("/x/b/run"), Path("/x/other")])
        ['a/run', 'b/run', 'other']
    """
    found = []
    for folder in folders:
        length = 1
        while any(
            other.parts[-length:] == folder.parts[-length:] for other in folders if other != folder
        ):
            length += 1
        found.append("/".join(folder.parts[-length:]) or "/")
    return found


def _read(folder: Path) -> tuple[RunRecord, list[Monitored]]:
    places = monitor_folders(folder) if folder.is_dir() else []
    if len(places) > _MOST_MONITORS:
        raise ValueError(
            f"`RUN_DIR` must be the folder of one run. Received: RUN_DIR={str(folder)!r}, with "
            f"files of Monitor in {len(places)} folders. Give the folders of the runs in it."
        )
    monitors = []
    for place in places:
        try:
            monitors.append(read_monitor(place))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    if monitors and not record_files(folder):
        return RunRecord(title=folder.resolve().name or "/"), monitors
    return read_directory(folder), monitors
