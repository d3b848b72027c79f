"""Checks whether a path exists: yes, no, or an error. An error never counts as no.

    if kind_of("gs://bucket/run") is None:
        ...  # nothing exists at this path, for certain

In TensorFlow 2.21 `tf.io.gfile.isdir` returns False for every error, `exists` does so on local
disks, and `listdir` reports that the folder was not found. A program that relies on them mistakes a
storage that does not respond for an empty one.
"""

from __future__ import annotations

import errno
from typing import Literal


def kind_of(path: str) -> Literal["file", "folder"] | None:
    """Returns what exists at a path, or None if nothing does.

    Args:
        path: Local, or with a scheme that TensorFlow supports (`gs://bucket/run`).

    Raises:
        OSError: If the storage cannot be queried.
    """
    import tensorflow as tf

    try:
        return "folder" if tf.io.gfile.stat(path).is_directory else "file"
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise _unknown(path, error) from error


def names_in(folder: str) -> list[str] | None:
    """Returns the names in a folder, without trailing slashes, or None if it does not exist.

    Args:
        folder: Local, or with a scheme that TensorFlow supports.

    Raises:
        OSError: If the storage cannot be queried, or the path is a file.
    """
    import tensorflow as tf

    kind = kind_of(folder)
    if kind is None:
        return None
    if kind == "file":
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder", folder)
    try:
        return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    except tf.errors.NotFoundError as error:
        # `listdir` calls `isdir` first, which returns False for every error.
        if kind_of(folder) is None:
            return None
        raise _unknown(folder, error) from error
    except tf.errors.OpError as error:
        raise _unknown(folder, error) from error


def _unknown(path: str, error: Exception) -> OSError:
    return OSError(
        f"Cannot tell whether {path} exists: {getattr(error, 'message', error)}. "
        "Check the storage, the network and the permissions, then run again."
    )
