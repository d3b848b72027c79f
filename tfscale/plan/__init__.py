"""The memory of a training, planned without the devices.

    plan = tfscale.plan.memory_plan(build, replicas=8, memory_per_device=16 * 2**30)
    plan.cheapest.memory.total

The command `tfscale plan` prints the same as a table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.plan.costs import Configuration
    from tfscale.plan.device_memory import DeviceMemory
    from tfscale.plan.model_parallel import Division
    from tfscale.plan.planning import MemoryPlan, memory_plan
    from tfscale.plan.traced_model import VariableMemory

# Lazy, because the command's help needs this package and no TensorFlow.
_LAZY = {
    "Configuration": "tfscale.plan.costs",
    "DeviceMemory": "tfscale.plan.device_memory",
    "Division": "tfscale.plan.model_parallel",
    "MemoryPlan": "tfscale.plan.planning",
    "VariableMemory": "tfscale.plan.traced_model",
    "memory_plan": "tfscale.plan.planning",
}

__all__ = [
    "Configuration",
    "DeviceMemory",
    "Division",
    "MemoryPlan",
    "VariableMemory",
    "memory_plan",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
