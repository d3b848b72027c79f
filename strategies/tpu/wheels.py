"""Checks the wheels of a TPU host by their metadata, before TensorFlow is imported.

`import tensorflow` with tensorflow-tpu and an incompatible libtpu ends the process with SIGABRT,
which no `except` catches. pip installs such a pair by default: tensorflow-tpu 2.20.0 requires
libtpu 0.0.14 or later and gets the newest. So call this before TensorFlow is imported:

    require_importable_wheels()
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from importlib import metadata

# Tried with 2.20.0: 0.0.14, 17, 21, 24 and 30 import; 0.0.35, 40, 42.1, 43.2 and 52 abort.
_CHECKED = "2.20."
_OLDEST, _FIRST_TOO_NEW = (0, 0, 14), (0, 0, 31)
CURE = 'pip install "tensorflow-tpu==2.20.0" "libtpu==0.0.30"'


def require_importable_wheels(environ: Mapping[str, str] | None = None) -> None:
    """Checks that `import tensorflow` will not abort this process.

    It checks nothing on hosts without tensorflow-tpu, for versions that were not tried, if
    TensorFlow is already imported, or if TPU_LOAD_LIBRARY=0 keeps libtpu from being loaded.

    Args:
        environ: The environment. None means that of this process.

    Raises:
        ImportError: If tensorflow-tpu and libtpu are a pair that aborts.

    Example:
        >>> require_importable_wheels()
    """
    environ = os.environ if environ is None else environ
    if "tensorflow" in sys.modules or environ.get("TPU_LOAD_LIBRARY") == "0":
        return
    tensorflow, libtpu = _version("tensorflow-tpu"), _version("libtpu")
    if tensorflow is None or not tensorflow.startswith(_CHECKED):
        return
    if libtpu is not None and _OLDEST <= _numbers(libtpu) < _FIRST_TOO_NEW:
        return
    raise ImportError(
        "libtpu must be at least 0.0.14 and below 0.0.31 with tensorflow-tpu "
        f"{tensorflow}: otherwise `import tensorflow` aborts the process. Received: libtpu "
        f"{libtpu or 'not installed'}. Run {CURE}, or set TPU_LOAD_LIBRARY=0 to use only the CPU "
        "of this host.",
        name="tensorflow",
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
