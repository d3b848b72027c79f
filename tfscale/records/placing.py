"""Puts shards back into their places, and writes lost indexes: repairs that need no source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tfscale.files import reason
from tfscale.records.index import index_path, scanned, write_index
from tfscale.records.verification import FileState

_SUFFIX = ".moving"


def put_back(folder: str | os.PathLike[str], states: Sequence[FileState]) -> list[str]:
    """Renames files that contain a shard which is not in its place.

    Killed at any time, each content is still in the folder under a name where `verified` finds it.
    A file that is overwritten contained no shard of the set.

    Args:
        folder: Folder of the set.
        states: What `verified` found.

    Returns:
        The shards that are in their places now.

    Raises:
        OSError: If the folder cannot be written.
    """
    moves = {
        state.content_of: state.file
        for state in states
        if state.state in ("swapped", "renamed") and state.content_of is not None
    }
    try:
        # First all of them to names of their own: two may have each other's place.
        for shard, file in moves.items():
            Path(folder, file).rename(Path(folder, shard + _SUFFIX))
        for shard in moves:
            Path(folder, shard + _SUFFIX).replace(Path(folder, shard))
    except OSError as error:
        raise not_written(folder, error) from error
    return list(moves)


def write_lost_indexes(folder: str | os.PathLike[str], states: Sequence[FileState]) -> list[str]:
    """Writes the index of every good shard whose index is missing or wrong.

    Returns:
        The shards that have an index now.

    Raises:
        OSError: If an index cannot be written.
    """
    lost = [state.file for state in states if state.state in ("no index", "wrong index")]
    for file in lost:
        path = os.path.join(folder, file)  # noqa: PTH118
        write_index(index_path(path), scanned(path))
    return lost


def not_written(folder: str | os.PathLike[str], error: OSError) -> OSError:
    """Returns the error of a folder that cannot be changed."""
    return OSError(
        f"{os.fspath(folder)} could not be repaired: {reason(error)}. Check its permissions "
        "and the room on its disk, and run it again."
    )
