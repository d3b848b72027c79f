"""Runs a function as the workers of a job, for notebooks."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tfscale.launch.function_program import CALL_FILE, RESULT_FILE, pickler, traceback_file
from tfscale.launch.local_workers import launch_local_workers
from tfscale.launch.outcome import Outcome

# Not -m, which warns of a module that the package has imported.
_PROGRAM = "from tfscale.launch.function_program import main; main()"
Result = TypeVar("Result")


class JobFailed(RuntimeError):
    """Raised if the job of a function fails. The text ends with the traceback of a failed worker.

    Attributes:
        outcome: How the job ended.
    """

    def __init__(self, outcome: Outcome, traceback: str) -> None:
        super().__init__(f"{outcome}." + (f"\n\n{traceback}" if traceback else ""))
        self.outcome = outcome


def launch_function(
    function: Callable[..., Result],
    arguments: Sequence[object] = (),
    *,
    num_workers: int,
    gpus_per_worker: int | None = None,
    cpus_per_worker: int | None = None,
    max_restarts: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """Calls a function in N new processes, the workers of a cluster; returns worker 0's result.

    For notebooks, in which there is no program to start: the processes of this host are started as
    by `tfscale launch`, and their output appears below the cell. The function builds its strategy
    itself. It gets copies of the arguments: it cannot change objects of the notebook, so it returns
    what is needed, such as a History's dictionary or the path of a saved model.

    A function of the notebook itself, or one that uses functions of it, needs the package
    cloudpickle (`pip install 'tfscale[notebook]'`). Interrupting the cell ends the job.

    Args:
        function: What to call, in every worker.
        arguments: Its arguments.
        num_workers: Workers. Positive.
        gpus_per_worker: GPUs of each; None: all see all.
        cpus_per_worker: CPUs of each; None: all share all.
        max_restarts: Restarts after failures; None never restarts.
        environment: Variables that the workers get in addition.

    Returns:
        What the function returned in worker 0.

    Raises:
        ValueError: If an argument is out of range, or function or arguments cannot be pickled.
        JobFailed: If a worker fails.
        KeyboardInterrupt: If the cell is interrupted; the workers have ended then.

    Example:
        >>> tfscale.launch.launch_function(pow, (2, 10), num_workers=1)
        1024
    """
    if not callable(function):
        raise ValueError(
            f"`function` must be a function. Received: function={function!r}. Example: "
            "launch_function(train, (epochs,), num_workers=2)"
        )
    if not isinstance(arguments, (tuple, list)):
        raise ValueError(
            f"`arguments` must be a tuple or a list. Received: arguments={arguments!r}. Example "
            "for one argument: (3,)"
        )
    with tempfile.TemporaryDirectory(prefix="tfscale-") as name:
        folder = Path(name)
        folder.joinpath(CALL_FILE).write_bytes(_pickled(function, arguments))
        outcome = launch_local_workers(
            [sys.executable, "-c", _PROGRAM, name],
            num_workers,
            gpus_per_worker=gpus_per_worker,
            cpus_per_worker=cpus_per_worker,
            max_restarts=max_restarts,
            # Modules beside the notebook can be imported, as in it.
            environment={"PYTHONPATH": ":".join(filter(None, sys.path)), **(environment or {})},
        )
        if outcome.stop_signal is not None:
            raise KeyboardInterrupt(str(outcome))
        if outcome.status != 0:
            worker = outcome.first_failure.worker if outcome.first_failure else 0
            told = folder / traceback_file(worker)
            raise JobFailed(outcome, told.read_text("utf-8") if told.exists() else "")
        result: Result = pickle.loads(folder.joinpath(RESULT_FILE).read_bytes())
        return result


def _pickled(function: Callable[..., object], arguments: Sequence[object]) -> bytes:
    is_of_notebook = getattr(function, "__module__", None) == "__main__"
    if is_of_notebook and pickler() is pickle:
        raise ValueError(
            "`function` must be importable from a module, unless cloudpickle is installed. "
            f"Received: function={function!r}. Run pip install 'tfscale[notebook]', or move the "
            "function to a file beside the notebook."
        )
    try:
        return bytes(pickler().dumps((function, tuple(arguments))))
    except Exception as error:  # of any object that is part of it
        raise ValueError(
            "`function` and `arguments` must be picklable. Received: "
            f"function={function!r} ({type(error).__name__}: {error}). Build models, strategies "
            "and data sets inside the function."
        ) from error
