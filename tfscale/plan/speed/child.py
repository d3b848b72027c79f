"""A measurement in a process of its own, which is killed at its deadline."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from tfscale.launch.asked_process import asked_process, files_of_request, write_answer
from tfscale.verify.user_model import WrongUsage


class MeasurementFailed(RuntimeError):
    """Raised if a step or an all-reduce cannot be measured."""


def measured_in_child(
    module: str, request: dict[str, Any], *, seconds: float, has_cluster: bool
) -> dict[str, Any]:
    """Runs a measurement in a new process and returns what it wrote.

    Args:
        module: Of the program, which takes two files: the request, and where it writes.
        request: What the program is asked for.
        seconds: Deadline of the process.
        has_cluster: Whether it is this worker of the cluster, or a process for itself.

    Raises:
        WrongUsage: If the user's function does not return what it should.
        MeasurementFailed: If the process fails or is not done in time.
    """
    environment = dict(os.environ)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with asked_process(module, request, environment, has_cluster=has_cluster) as asked:
        try:
            asked.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(
                f"not done within {seconds:.3g} s. Give more `--seconds`, or a smaller model."
            ) from None
    outcome = asked.answer
    if outcome is None:
        raise MeasurementFailed(
            f"the process ended with status {asked.process.returncode}: {asked.last_lines}"
        )
    if "wrong" in outcome:
        raise WrongUsage(outcome["wrong"])
    if "error" in outcome:
        raise MeasurementFailed(outcome["error"])
    return outcome


def answer(measure: Any) -> None:
    """Runs a measurement in this process, which `measured_in_child` has started.

    Args:
        measure: Takes the request and returns the outcome.
    """
    from tfscale.verify.user_model import in_one_line

    request, file = files_of_request()
    try:
        outcome = measure(request)
    except WrongUsage as error:
        outcome = {"wrong": str(error)}
    except Exception as error:  # of the user's model or data, or of the cluster
        outcome = {"error": in_one_line(error)[:1500]}
    write_answer(file, outcome)
