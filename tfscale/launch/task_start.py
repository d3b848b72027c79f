"""Starts a task on this host, with the variables that every engine gives it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from strategies import Cluster
from strategies.extension import (
    EXIT_REASON_VARIABLE,
    RESTART_VARIABLE,
    notice_seconds_from_environment,
)
from tfscale.files.output_files import open_log
from tfscale.launch.events import Events
from tfscale.launch.output import OutputRelay, SharedOutput
from tfscale.launch.supervision import SupervisedWorker
from tfscale.launch.worker_process import WorkerProcess


def task_variables(cluster: Cluster, restart: int, exit_reason_file: Path) -> dict[str, str]:
    """Returns the variables of a task besides TFSCALE_JOB_ID.

    Args:
        cluster: The cluster, with this task.
        restart: Number of earlier starts of the job.
        exit_reason_file: Where the task says why it failed.
    """
    return {
        "TF_CONFIG": cluster.to_tf_config(),
        RESTART_VARIABLE: str(restart),
        EXIT_REASON_VARIABLE: str(exit_reason_file),
        # Otherwise the last kilobytes that a killed task has printed would be lost.
        "PYTHONUNBUFFERED": "1",
    }


def started_task(
    task: str,
    cluster: Cluster,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    process_index: int,
    exit_reason_file: Path,
    log: Path | None,
    output: SharedOutput,
    events: Events,
    inherited: Sequence[int] = (),
) -> SupervisedWorker:
    """Starts the process of a task, and the relay of its output.

    Args:
        task: Its name, such as "worker 0".
        cluster: The cluster, with this task.
        command: Program and arguments.
        environment: All of its variables.
        process_index: A number that no other process of this start has.
        exit_reason_file: Where the task says why it failed. What an earlier process said is
            removed.
        log: File to which its output is appended. None: there is none.
        output: Receives its output.
        events: Receives what happens to it.
        inherited: Descriptors of this process that the task has too.

    Raises:
        ValueError: If TFSCALE_NOTICE_SECONDS is not a positive number.
        OSError: If the system provides no file, pipe or process.
    """
    notice_seconds = notice_seconds_from_environment(environment)
    exit_reason_file.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        # Appended, so that a scheduler that runs the same command again keeps earlier logs.
        log_stream = None if log is None else stack.enter_context(open_log(log))
        read_end, write_end = os.pipe()
        try:
            process = WorkerProcess(
                process_index, command, environment, write_end, events, inherited
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        stack.pop_all()  # The relay closes the log.
    relay = OutputRelay(process_index, task, read_end, output, events, log_stream)
    return SupervisedWorker(process, relay, cluster, exit_reason_file, task, notice_seconds)
