"""The memory and the speed of a training, planned without the devices.

    plan = tfscale.plan.memory_plan(build, replicas=8, memory_per_device=16 * 2**30)
    plan.cheapest.memory.total

The command `tfscale plan` prints the same as a table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfscale.plan.memory.costs import Configuration
    from tfscale.plan.memory.device_memory import DeviceMemory
    from tfscale.plan.memory.model_parallel import Division
    from tfscale.plan.memory.planning import MemoryPlan, memory_plan
    from tfscale.plan.memory.traced_model import VariableMemory
    from tfscale.plan.simulation.choosing import Circumstances, JobPlan, best_plan
    from tfscale.plan.simulation.failures import Failures
    from tfscale.plan.simulation.forecast import JobForecast
    from tfscale.plan.simulation.intervals import IntervalCurve, interval_curve
    from tfscale.plan.simulation.job import Saves, TrainingJob
    from tfscale.plan.simulation.planned_job import Limits, PlannedJob
    from tfscale.plan.simulation.requests import LaunchRequest, launch_request
    from tfscale.plan.simulation.simulating import simulate_job
    from tfscale.plan.simulation.stragglers import Stragglers
    from tfscale.plan.simulation.young_daly import checkpoint_interval, expected_run_seconds
    from tfscale.plan.speed.link_law import LinkLaw
    from tfscale.plan.speed.measured import MeasuredSpeed
    from tfscale.plan.speed.measuring import measure_speed
    from tfscale.plan.speed.predicting import SpeedPredictor
    from tfscale.plan.speed.prediction import StepPrediction
    from tfscale.plan.speed.strategies import SpeedSettings
    from tfscale.plan.speed.training_cost import TrainingCost, training_cost

# Lazy, because the command's help needs this package and no TensorFlow.
_LAZY = {
    "Circumstances": "tfscale.plan.simulation.choosing",
    "Configuration": "tfscale.plan.memory.costs",
    "DeviceMemory": "tfscale.plan.memory.device_memory",
    "Division": "tfscale.plan.memory.model_parallel",
    "Failures": "tfscale.plan.simulation.failures",
    "IntervalCurve": "tfscale.plan.simulation.intervals",
    "JobForecast": "tfscale.plan.simulation.forecast",
    "JobPlan": "tfscale.plan.simulation.choosing",
    "LaunchRequest": "tfscale.plan.simulation.requests",
    "Limits": "tfscale.plan.simulation.planned_job",
    "LinkLaw": "tfscale.plan.speed.link_law",
    "MeasuredSpeed": "tfscale.plan.speed.measured",
    "MemoryPlan": "tfscale.plan.memory.planning",
    "PlannedJob": "tfscale.plan.simulation.planned_job",
    "Saves": "tfscale.plan.simulation.job",
    "SpeedPredictor": "tfscale.plan.speed.predicting",
    "SpeedSettings": "tfscale.plan.speed.strategies",
    "StepPrediction": "tfscale.plan.speed.prediction",
    "Stragglers": "tfscale.plan.simulation.stragglers",
    "TrainingCost": "tfscale.plan.speed.training_cost",
    "TrainingJob": "tfscale.plan.simulation.job",
    "VariableMemory": "tfscale.plan.memory.traced_model",
    "best_plan": "tfscale.plan.simulation.choosing",
    "checkpoint_interval": "tfscale.plan.simulation.young_daly",
    "expected_run_seconds": "tfscale.plan.simulation.young_daly",
    "interval_curve": "tfscale.plan.simulation.intervals",
    "launch_request": "tfscale.plan.simulation.requests",
    "measure_speed": "tfscale.plan.speed.measuring",
    "memory_plan": "tfscale.plan.memory.planning",
    "simulate_job": "tfscale.plan.simulation.simulating",
    "training_cost": "tfscale.plan.speed.training_cost",
}

__all__ = [
    "Circumstances",
    "Configuration",
    "DeviceMemory",
    "Division",
    "Failures",
    "IntervalCurve",
    "JobForecast",
    "JobPlan",
    "LaunchRequest",
    "Limits",
    "LinkLaw",
    "MeasuredSpeed",
    "MemoryPlan",
    "PlannedJob",
    "Saves",
    "SpeedPredictor",
    "SpeedSettings",
    "StepPrediction",
    "Stragglers",
    "TrainingCost",
    "TrainingJob",
    "VariableMemory",
    "best_plan",
    "checkpoint_interval",
    "expected_run_seconds",
    "interval_curve",
    "launch_request",
    "measure_speed",
    "memory_plan",
    "simulate_job",
    "training_cost",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
