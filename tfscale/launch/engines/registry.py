"""The engines by name, and where each is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from tfscale.launch.engines.engine import Engine
from tfscale.launch.engines.in_background import InBackground

ENGINES = {
    "local": "tfscale.launch.engines.local:Local",
    "kubernetes": "tfscale.launch.engines.kubernetes:Kubernetes",
    "slurm": "tfscale.launch.engines.slurm.engine:Slurm",
    "mpi": "tfscale.launch.engines.mpi.engine:Mpi",
    "ray": "tfscale.launch.engines.ray.engine:Ray",
    "tpu_vm": "tfscale.launch.engines.tpu_vm.engine:TpuVm",
}
"""Module and class of each value of `--engine`, imported when it is used."""


def engine_named(name: str, flags: Mapping[str, Any] | None = None) -> Engine:
    """Returns an engine.

    Args:
        name: A value of `--engine`.
        flags: The flags of `tfscale launch`, by name, to submit a job; an engine of this host runs
            them again in the background. None to ask about a job.

    Raises:
        ValueError: If there is no such engine.

    Example:
        >>> engine_named("local").name
        'local'
    """
    if name not in ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(ENGINES)}. Received: engine={name!r}. "
            "`tfscale launch --help` describes them."
        )
    module, _, kind = ENGINES[name].partition(":")
    engine = getattr(importlib.import_module(module), kind)
    return cast(Engine, engine(flags) if issubclass(engine, InBackground) else engine())
