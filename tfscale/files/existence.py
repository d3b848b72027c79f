"""Whether something is there: yes, no, or an error, which is never taken for no.

    if kind_of("gs://bucket/run") is None:
        ...  # it is not there, for certain

`tf.io.gfile.isdir` answers False to every error, `exists` does on local disks, and `listdir` says
that it could not find the folder (TensorFlow 2.21). A program that believes them takes a storage
that does not answer for an empty one.
"""

from __future__ import annotations

import errno
from typing import Literal


def kind_of(path: str) -> Literal["file", "folder"] | None:
    """Returns what is at a path, or None if nothing is.

    Args:
        path: Local, or of a file system that TensorFlow knows by a scheme (`gs://bucket/run`).

    Raises:
        OSError: If the storage does not say.
    """
    import tensorflow as tf

    try:
        return "folder" if tf.io.gfile.stat(path).is_directory else "file"
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise _unknown(path, error) from error


def names_in(folder: str) -> list[str] | None:
    """Returns the names in a folder, those of folders without a slash; None if it is not there.

    Args:
        folder: Local, or of a file system that TensorFlow knows by a scheme.

    Raises:
        OSError: If the storage does not say, or a file has this name.
    """
    import tensorflow as tf

    kind = kind_of(folder)
    if kind is None:
        return None
    if kind == "file":
        raise NotADirectoryError(errno.ENOTDIR, "a file has the folder's name", folder)
    try:
        return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    except tf.errors.NotFoundError as error:
        # It looks with `isdir` before it lists.
        if kind_of(folder) is None:
            return None
        raise _unknown(folder, error) from error
    except tf.errors.OpError as error:
        raise _unknown(folder, error) from error


def _unknown(path: str, error: Exception) -> OSError:
    return OSError(
        f"The storage does not say whether {path} is there: {getattr(error, 'message', error)}. "
        "Look at the storage, the network and the permissions, and start again."
    )
