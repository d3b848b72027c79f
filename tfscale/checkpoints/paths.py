"""Validates the path of a checkpoint folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_ONE_SLASH = re.compile(r"(gs|s3|s3a|hdfs|viewfs|har|ram|file|http|https|az|abfs|abfss|oss):/?[^/]")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
_NEEDS_NO_HOST = ("file", "ram", "hdfs", "viewfs")


def target_path(name: str, value: Any, *, is_saved_to: bool = False) -> str:
    """Returns the path of a checkpoint folder, independent of the current directory.

    A local path becomes absolute, and a leading `~` is expanded to the home folder.

    Args:
        name: The argument's name, for the message.
        value: The argument: a string or a path object.
        is_saved_to: Whether checkpoints will be written there. A `file://` path is then an error,
            because TensorFlow's writes to local file systems are not atomic.

    Raises:
        ValueError: If it is not a path, is empty, has a scheme that TensorFlow does not support, or
            has no bucket.

    Example:
        >>> target_path("directory", "/runs/a/")
        '/runs/a'
        >>> target_path("directory", "gs://bucket/a/")
        'gs://bucket/a'
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise _refusal(name, value, "a string or a path object", "Pass the run's folder: 'runs/a'.")
    if not path.strip():
        raise _refusal(name, value, "the path of a folder", "Pass the run's folder: 'runs/a'.")
    if "\0" in path:
        raise _refusal(name, value, "a path without NUL characters", "Remove them.")
    scheme = _SCHEME.fullmatch(path)
    if scheme is not None:
        if is_saved_to and scheme[1] == "file":
            cure = f"Pass {'/' + scheme[2].lstrip('/')!r}."
            raise _refusal(name, value, "a local path without a scheme", cure)
        _check_scheme(name, value, scheme[1], scheme[2])
        return path.rstrip("/")
    if _ONE_SLASH.match(path) and not Path(path).is_dir():
        cure = "Write two slashes, in a string: pathlib.Path removes one of them."
        raise _refusal(name, value, "a local path, or have '://' after its scheme", cure)
    if not path.startswith("~"):
        return str(Path(path).absolute())
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        cure = "Pass the folder's full path, or './~...' for a folder of this name."
        raise _refusal(name, value, "a path below an existing home folder", cure) from None


def _check_scheme(name: str, value: Any, scheme: str, rest: str) -> None:
    import tensorflow as tf

    known = sorted(filter(None, tf.io.gfile.get_registered_schemes()))
    if scheme not in known:
        cure = (
            "First import the package that adds the scheme (tensorflow-io adds s3), mount the "
            "store as a folder, or use a local folder."
        )
        raise _refusal(name, value, f"a local path, or one with a scheme of {known}", cure)
    if scheme not in _NEEDS_NO_HOST and not rest.split("/")[0]:
        raise _refusal(name, value, "a path in a bucket", f"Write '{scheme}://bucket/runs/a'.")


def _refusal(name: str, value: Any, rule: str, cure: str) -> ValueError:
    return ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}. {cure}")
