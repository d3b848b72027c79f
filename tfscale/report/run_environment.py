"""The environment of a run: what `tfscale doctor` finds, and the strategy."""

from __future__ import annotations

import os
import platform
from typing import Any

from tfscale.doctor import examination

_OF_A_RUN = ("releases", "wheels")
"""What holds for a whole run. The port of a task, for instance, is taken while it trains."""


def environment(strategy: Any) -> dict[str, str | int]:
    """Describes this process for `RunRecord.environment`.

    Contains no host name and no user name, because reports are shared. Includes the problems that
    `tfscale doctor` lists, such as a Keras release that a fix does not support.

    Args:
        strategy: The `tf.distribute.Strategy` that the run trains under.

    Example:
        >>> environment(strategies.mirrored_strategy(num_replicas=2))["replicas"]
        2
    """
    import keras

    from strategies.extension import last_execution_size

    found = examination.examine(_OF_A_RUN)
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict() if resolver is not None else {}
    described: dict[str, str | int] = {
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "workers": len(jobs.get("chief", [])) + len(jobs.get("worker", [])) or 1,
        "devices": ", ".join(f"{count} {kind}" for kind, count in found["devices"].items()),
        "precision": keras.config.dtype_policy().name,
        "processor cores": os.cpu_count() or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        **found["versions"],
    }
    size = last_execution_size(strategy)
    if size is not None:
        described["steps per execution"] = str(size)
    if found["problems"]:
        described["problems"] = " ".join(found["problems"])
    return described
