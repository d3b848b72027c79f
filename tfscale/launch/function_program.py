"""Program: calls the function of `tfscale.launch.launch_function` in a worker.

Its argument is a folder, which has the pickled call. Worker 0 writes there what the function
returns, and any worker the traceback of what it raises.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

CALL_FILE = "call.pickle"
RESULT_FILE = "result.pickle"


def traceback_file(worker: int) -> str:
    """Returns the name of the file with the traceback of a worker."""
    return f"worker-{worker}.traceback"


def pickler() -> Any:
    """Returns cloudpickle, which can also pickle what a notebook defines, or else pickle."""
    try:
        import cloudpickle
    except ImportError:
        return pickle
    return cloudpickle


def _pickled(result: object) -> bytes:
    try:
        return bytes(pickler().dumps(result))
    except Exception as error:  # of any object that is part of it
        raise ValueError(
            "`function` must return what can be pickled. Received: a result of type "
            f"{type(result).__name__} ({type(error).__name__}: {error}). Return numbers, arrays, "
            "dictionaries of them, or the path of what was saved."
        ) from error


def main() -> None:
    """Calls the function; errors end the process as in any program."""
    folder = Path(sys.argv[1])
    worker = int(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
    try:
        function, arguments = pickle.loads((folder / CALL_FILE).read_bytes())
        result = function(*arguments)
        if worker == 0:
            part = folder / f"{RESULT_FILE}.part"
            part.write_bytes(_pickled(result))
            part.replace(folder / RESULT_FILE)
    except Exception:
        (folder / traceback_file(worker)).write_text(traceback.format_exc(), "utf-8")
        raise
