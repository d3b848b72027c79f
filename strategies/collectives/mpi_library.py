"""Starts and ends the MPI library of this process.

mpi4py is imported and MPI initialised only here, and only if the launcher of this process offers
MPI. MPICH keeps its shared memory in a file of /dev/shm. It is unlinked as soon as every worker has
mapped it, so that a job that is killed leaves nothing behind.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strategies.cluster.environments import JOB_VARIABLE
from strategies.deadline import Deadline

if TYPE_CHECKING:
    from mpi4py import MPI

INSTALL = "pip install 'tfscale[mpi]'"
_STARTED_BY = ("PMI_PORT", "PMI_FD", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
"""Variables of process managers that MPI libraries ask for their rank."""
_END_SECONDS = 300.0
_NOTICE_SECONDS = 10.0
_POLL_SECONDS = 0.01


def why_not_available(environ: Mapping[str, str]) -> str:
    """Returns why this process cannot use MPI, or "" if it can, without initialising MPI.

    Args:
        environ: The environment of this process.
    """
    if importlib.util.find_spec("mpi4py") is None:
        return f"mpi4py is not installed ({INSTALL})"
    if not any(name in environ for name in _STARTED_BY):
        return "no launcher of MPI started this process (use tfscale launch, mpiexec or mpirun)"
    is_open_mpi = "OMPI_COMM_WORLD_RANK" in environ
    library = _library()
    if is_open_mpi != library.startswith("Open MPI"):
        # MPI_Init would end the process.
        launcher = "Open MPI" if is_open_mpi else "MPICH"
        return f"{launcher} started this process, and the library of mpi4py is {library}"
    return ""


def _library() -> str:
    """Returns the MPI library that mpi4py uses, such as "MPICH 5.0.2", without initialising it."""
    import mpi4py

    mpi4py.rc.initialize = mpi4py.rc.finalize = False
    from mpi4py import MPI

    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def started_world(size: int, rank: int) -> tuple[MPI.Comm, bool]:
    """Initialises MPI if needed.

    All workers must call this at about the same time: it waits for all of them.

    Args:
        size: The number of workers.
        rank: The index of this worker.

    Returns:
        A communicator of all workers, in their order, and whether MPI was initialised here.

    Raises:
        RuntimeError: If MPI's processes are not the workers, or it does not support threads.
    """
    _library()  # first: it keeps mpi4py from initialising MPI by itself
    from mpi4py import MPI

    initialises = not MPI.Is_initialized()
    if initialises:
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    world = MPI.COMM_WORLD
    if world.size != size:
        library = MPI.Get_library_version().splitlines()[0].strip("\0 ")
        raise RuntimeError(
            f"MPI must have one process for each worker. Received: {world.size} of {library} for "
            f"{size} workers. `tfscale launch` starts MPICH (pip install mpich), and Open MPI needs"
            " its own mpirun."
        )
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise RuntimeError(
            "MPI must be initialised with MPI_THREAD_MULTIPLE. Received: level "
            f"{MPI.Query_thread()}. Remove the program's own MPI_Init, or build the strategy first."
        )
    workers = world.Split(0, rank)
    workers.Set_errhandler(MPI.ERRORS_RETURN)
    _unlink_shared_memory(workers)
    return workers, initialises


def _unlink_shared_memory(workers: MPI.Comm) -> None:
    workers.Barrier()  # all have mapped it
    with contextlib.suppress(OSError):  # such as without /proc
        for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
            _, found, name = line.partition("/dev/shm/mpich_shm_")
            if found:
                Path(found + name).unlink(missing_ok=True)  # one worker is the first


def leave_at_end(has_failed: Callable[[], bool], initialised: bool) -> None:
    """Leaves MPI at the end of the program, in order if it can.

    A program that imported mpi4py itself leaves with MPI_Finalize, which waits for all workers, so
    after a failure this process ends before it. Otherwise `tfscale launch` needs no MPI_Finalize.
    mpiexec ends a job in which a process exits without it, which is right after an exception; at a
    normal end workers wait for each other here, because MPI_Finalize would, with a busy processor.

    Args:
        has_failed: Tells whether a collective has failed.
        initialised: Whether `started_world` initialised MPI, and not the program.
    """
    atexit.register(_leave, has_failed, initialised)


def _leave(has_failed: Callable[[], bool], initialised: bool) -> None:
    from mpi4py import MPI

    if not initialised:
        if has_failed():
            sys.stdout.flush()
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)  # MPI_Abort would run MPI_Finalize too
        return
    is_failure = has_failed() or getattr(sys, "last_value", None) is not None
    # `tfscale launch` itself is the process manager if it has given its port.
    is_of_tfscale = JOB_VARIABLE in os.environ and "PMI_PORT" in os.environ
    if is_of_tfscale or is_failure or MPI.Is_finalized():
        return
    deadline, notice = Deadline(_END_SECONDS), Deadline(_NOTICE_SECONDS)
    request: Any = MPI.COMM_WORLD.Ibarrier()
    while not request.Test():
        if deadline.is_over():
            print(
                f"tfscale: a worker did not end within {_END_SECONDS:g} s of this one, which ends "
                "without MPI_Finalize.",
                file=sys.stderr,
                flush=True,
            )
            return
        if notice.is_over():
            notice = deadline
            line = "tfscale: this worker has ended its program and waits in MPI for the others."
            print(line, file=sys.stderr, flush=True)
        time.sleep(_POLL_SECONDS)
    MPI.Finalize()
