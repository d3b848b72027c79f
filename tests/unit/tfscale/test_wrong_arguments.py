"""Every argument of every public name with invalid values: a ValueError that names it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import strategies
import tfscale
from tfscale import callbacks, checkpoints, launch, optimizers, parallel, plan, schedules, shrink

NAN, INF = math.nan, math.inf


def a_function() -> None:
    """Something else than a number, too."""


WRONG: dict[str, Any] = {
    "None": None, "'60'": "60", "''": "", "b'x'": b"x", "-1": -1, "0": 0, "2.5": 2.5, "0.5": 0.5,
    "nan": NAN, "inf": INF, "-inf": -INF, "True": True, "[]": [], "[1]": [1], "{}": {},
    "object()": object(), "float32 nan": np.float32(NAN), "int64 -3": np.int64(-3),
    "array": np.arange(2), "array 0-d nan": np.array(NAN), "10**400": 10**400, "1j": 1j,
    "function": a_function,
}  # fmt: skip

# What each kind of argument may accept of these, besides what it is there for.
KINDS: dict[str, set[str]] = {
    "positive integer": set(),
    "integer from 0": {"0"},
    "positive": {"2.5", "0.5"},
    "long": set(),  # above 7 seconds
    "from 0": {"0", "2.5", "0.5"},
    "rate": {"0", "2.5", "0.5", "function"},
    "part": {"0.5"},  # above 0 and below 1
    "part or 1": {"0.5"},
    "from 0 to 1": {"0", "0.5"},
    "number": {"-1", "0", "2.5", "0.5", "int64 -3"},
    "above 1": {"2.5"},
    "boolean": {"True"},
    "name": set(),
    "text": {"'60'"},
    "any text": {"'60'", "''"},
    "array": {"array", "'60'", "''"},  # and the name of a set
    "sequence": {"[]", "[1]", "array"},
    "path": {"'60'"},
    "thing": set(),
    "table": {"{}"},
    "sequence of names": {"[]"},
}


@dataclasses.dataclass(frozen=True)
class Public:
    """A public name with arguments that are right, and the kind of each that is swept."""

    call: Callable[..., Any]
    right: dict[str, Any]
    kinds: dict[str, str]


def public(call: Callable[..., Any], kinds: dict[str, str], **right: Any) -> Public:
    return Public(call, right, kinds)


# These need other tasks, a TPU, processes or a compiled model: what is right is tested elsewhere.
TESTED_ELSEWHERE = {
    "multi_worker_mirrored_strategy",
    "parameter_server_strategy",
    "tpu_strategy",
    "strategy_by_name",
    "launch_local_workers",
    "launch_elastic_workers",
    "resharded",
    "prepare",
}

# What the message calls some of them: as on the command line.
OTHERWISE = {"addresses": "hosts", "index": "host_index", "address": "rendezvous"}

COUNT, FROM_0, TEXT = "positive integer", "integer from 0", "text"
CASES = {
    "StopAt": public(
        callbacks.StopAt,
        {"monitor": TEXT, "value": "number", "mode": "name", "every_steps": f"{COUNT} or None",
         "validation_freq": COUNT},
        monitor="loss", value=0.5,
    ),
    "Checkpoint": public(
        callbacks.Checkpoint,
        {"every": COUNT, "keep": f"{COUNT} or None", "asynchronous": "boolean",
         "directory": "path"},
        directory="/nowhere/at/all",
    ),
    "LocalUpdates": public(callbacks.LocalUpdates, {"every": COUNT}, every=2),
    "ReduceOnPlateau": public(
        callbacks.ReduceOnPlateau,
        {"monitor": TEXT, "factor": "part", "patience": COUNT, "mode": "name",
         "min_delta": "from 0", "cooldown": FROM_0, "min_factor": "from 0 to 1",
         "validation_freq": COUNT},
    ),
    "Stability": public(
        callbacks.Stability,
        {"on_trouble": "name", "factor": "above 1 or None", "window": COUNT,
         "warmup_steps": COUNT, "keep_every": COUNT, "rate_factor": "part or 1",
         "max_rollbacks": COUNT},
    ),
    "Watchdog": public(callbacks.Watchdog, {"deadline_seconds": "long"}),
    "CheckpointDirectory": public(
        checkpoints.CheckpointDirectory, {"path": "path"}, path="/nowhere/at/all"
    ),
    "warmup": public(
        schedules.warmup,
        {"schedule": "from 0", "warmup_steps": FROM_0, "initial": "from 0"},
        schedule=0.1, warmup_steps=3,
    ),
    "join": public(
        schedules.join, {"schedules": "sequence", "boundaries": "sequence"},
        schedules=[0.1, 0.2], boundaries=[5],
    ),
    "piecewise_linear": public(
        schedules.piecewise_linear, {"steps": "sequence", "learning_rates": "sequence"},
        steps=[0, 5], learning_rates=[0.1, 0.2],
    ),
    "constant": public(schedules.constant, {"learning_rate": "from 0"}, learning_rate=0.1),
    "adjustable": public(
        schedules.adjustable, {"schedule": "from 0", "factor": "from 0"}, schedule=0.1
    ),
    "inverse_square_root_decay": public(
        schedules.inverse_square_root_decay,
        {"maximum_learning_rate": "from 0", "warmup_steps": COUNT},
        maximum_learning_rate=0.1, warmup_steps=3,
    ),
    "linear_decay": public(
        schedules.linear_decay,
        {"initial_learning_rate": "from 0", "decay_steps": COUNT, "end_learning_rate": "from 0"},
        initial_learning_rate=0.1, decay_steps=3,
    ),
    "one_cycle": public(
        schedules.one_cycle,
        {"maximum_learning_rate": "from 0", "num_steps": COUNT,
         "initial_learning_rate": "from 0 or None", "final_learning_rate": "from 0 or None",
         "final_steps": f"{FROM_0} or None"},
        maximum_learning_rate=0.1, num_steps=30,
    ),
    "scale_learning_rate": public(
        schedules.scale_learning_rate,
        {"base_learning_rate": "from 0", "global_batch_size": COUNT, "base_batch_size": COUNT,
         "rule": "name"},
        base_learning_rate=0.1, global_batch_size=512,
    ),
    "schedule_by_name": public(
        schedules.schedule_by_name,
        {"name": "name", "learning_rate": "from 0", "num_steps": COUNT, "warmup_steps": FROM_0},
        name="cosine", learning_rate=0.1, num_steps=30,
    ),
    "warmup_stable_decay": public(
        schedules.warmup_stable_decay,
        {"maximum_learning_rate": "from 0", "warmup_steps": FROM_0, "stable_steps": FROM_0,
         "decay_steps": COUNT, "end_learning_rate": "from 0", "decay": "name"},
        maximum_learning_rate=0.1, warmup_steps=3, stable_steps=3, decay_steps=3,
    ),
    "LARS": public(
        optimizers.LARS,
        {"learning_rate": "rate", "momentum": "from 0 to 1", "nesterov": "boolean",
         "weight_decay": "from 0 or None", "trust_coefficient": "positive", "exclude": "sequence"},
        learning_rate=0.1,
    ),
    "optimizer_by_name": public(
        optimizers.optimizer_by_name,
        {"name": "name", "learning_rate": "from 0", "weight_decay": "from 0 or None",
         "clip_norm": "positive or None", "beta_1": "from 0 to 1 or None",
         "beta_2": "from 0 to 1 or None", "epsilon": "from 0 or None",
         "ema_momentum": "from 0 to 1 or None"},
        name="adam", learning_rate=0.1,
    ),
    "RowUniform": public(
        parallel.RowUniform, {"minval": "number", "maxval": "number", "seed": FROM_0}, maxval=9.0
    ),
    "ShardedEmbedding": public(
        parallel.ShardedEmbedding,
        {"input_dim": COUNT, "output_dim": COUNT, "num_shards": COUNT, "mask_zero": "boolean"},
        input_dim=40, output_dim=3, num_shards=2,
    ),
    "resharded": public(
        parallel.resharded, {"model": "thing", "num_shards": COUNT},
        model=keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), num_shards=2,
    ),
    "CubicSparsity": public(
        shrink.CubicSparsity,
        {"final": "part", "begin": FROM_0, "end": COUNT, "every": COUNT},
        final=0.5, end=200,
    ),
    "ConstantSparsity": public(
        shrink.ConstantSparsity, {"final": "part", "begin": COUNT}, final=0.5, begin=2
    ),
    "OneShot": public(shrink.OneShot, {"final": "part"}, final=0.5),
    "Prune": public(
        shrink.Prune,
        {"schedule": "thing", "pattern": "name", "scope": "name or None", "score": "name",
         "targets": "table or None", "keep": "sequence of names"},
        schedule=shrink.OneShot(0.5),
    ),
    "input_pipeline": public(
        tfscale.data.input_pipeline,
        {"source": "array", "strategy": "thing", "global_batch_size": COUNT, "shuffle": "boolean",
         "seed": FROM_0, "drop_remainder": "boolean", "preprocess": "callable or None",
         "augment": "callable or None", "shuffle_window": COUNT},
        source=(np.zeros((8, 1)), np.zeros(8)),
        strategy=strategies.one_device_strategy("CPU:0"), global_batch_size=2,
    ),
    "checkpoint_interval": public(
        plan.checkpoint_interval,
        {"save_seconds": "positive", "failure_seconds": "positive", "workers": COUNT},
        save_seconds=0.2, failure_seconds=2.0,
    ),
    "expected_run_seconds": public(
        plan.expected_run_seconds,
        {"train_seconds": "positive", "interval_seconds": "positive", "save_seconds": "from 0",
         "failure_seconds": "positive", "restart_seconds": "from 0", "workers": COUNT},
        train_seconds=9.0, interval_seconds=1.0, save_seconds=0.2, failure_seconds=2.0,
    ),
    "Saves": public(
        plan.Saves,
        {"seconds": "from 0", "taken_seconds": "from 0 or None", "every": f"{COUNT} or None"},
        seconds=9.0,
    ),
    "Failures": public(
        plan.Failures,
        {"seconds": "positive", "shape": "positive", "detection_seconds": "from 0",
         "wait_seconds": "from 0", "start_seconds": "from 0", "restore_seconds": "from 0 or None",
         "replace_seconds": "from 0", "spares": FROM_0, "least_workers": f"{COUNT} or None"},
        seconds=9.0,
    ),
    "Stragglers": public(
        plan.Stragglers,
        {"spread": "from 0", "shape": "name", "slow_share": "from 0 to 1",
         "slow_factor": "above 1"},
    ),
    "TrainingJob": public(
        plan.TrainingJob,
        {"steps": COUNT, "step_seconds": "positive", "workers": COUNT,
         "communication_seconds": "from 0", "input_seconds": "from 0",
         "steps_between_averages": COUNT, "parameter_servers": FROM_0, "saves": "thing",
         "failures": "thing or None", "stragglers": "thing"},
        steps=2, step_seconds=9.0,
    ),
    "SpeedSettings": public(
        plan.SpeedSettings,
        {"rows": f"{COUNT} or None", "global_batch_size": f"{COUNT} or None", "replicas": COUNT,
         "every": COUNT, "servers": COUNT, "stages": COUNT, "microbatches": COUNT},
    ),
    "training_cost": public(
        plan.training_cost,
        {"examples": COUNT, "cost_per_hour": "from 0 or None", "servers": COUNT},
        predicted=plan.StepPrediction(
            "ring", 2, 2, 20, 0.5, 0.5, 0.5, {}, 1.0, 40.0, "compute", False, ""
        ),
        examples=100,
    ),
    "simulate_job": public(
        plan.simulate_job, {"job": "thing", "repeats": COUNT, "seed": FROM_0},
        job=plan.TrainingJob(steps=2, step_seconds=9.0),
    ),
    "Limits": public(
        plan.Limits,
        {"deadline_seconds": "positive or None", "budget": "positive or None",
         "energy_kwh": "positive or None", "cost_per_hour": "positive", "watts": "positive"},
        budget=1.0, energy_kwh=1.0, cost_per_hour=1.0, watts=1.0,
    ),
    "Circumstances": public(
        plan.Circumstances,
        {"examples": COUNT, "steps_between_averages": COUNT, "parameter_servers": COUNT,
         "saves": "thing", "failures": "thing or None", "stragglers": "thing", "limits": "thing",
         "repeats": COUNT, "seed": FROM_0},
        examples=2,
    ),
    "interval_curve": public(
        plan.interval_curve,
        {"job": "thing", "everys": "thing or None", "repeats": COUNT, "seed": FROM_0},
        job=plan.TrainingJob(
            steps=10_000, step_seconds=1.0, saves=plan.Saves(5.0), failures=plan.Failures(1000.0)
        ),
    ),
    "set_precision": public(tfscale.set_precision, {"precision": "name"}),
    "prepare": public(
        tfscale.prepare, {"model": "thing", "strategy": "thing", "precision": "name"},
        model=lambda: keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]),
        strategy=strategies.one_device_strategy("CPU:0"),
    ),
    "is_chief": public(
        strategies.is_chief, {"strategy": "thing"},
        strategy=strategies.one_device_strategy("CPU:0"),
    ),
    "one_device_strategy": public(strategies.one_device_strategy, {"device": "thing or None"}),
    "mirrored_strategy": public(
        strategies.mirrored_strategy,
        {"num_replicas": f"{COUNT} or None", "devices": "thing or None", "all_reduce": "name",
         "logical_devices_per_gpu": f"{COUNT} or None"},
    ),
    "multi_worker_mirrored_strategy": public(
        strategies.multi_worker_mirrored_strategy,
        {"cluster": "thing or None", "bring_up_seconds": "positive or None"},
    ),
    "parameter_server_strategy": public(
        strategies.parameter_server_strategy,
        {"cluster": "thing or None", "bring_up_seconds": "positive or None"},
    ),
    "tpu_strategy": public(
        strategies.tpu_strategy, {"tpu": "text", "bring_up_seconds": "positive or None"}
    ),
    "strategy_by_name": public(strategies.strategy_by_name, {"name": "name"}),
    "Cluster": public(
        strategies.Cluster,
        {"jobs": "thing", "task_type": "name", "task_index": FROM_0, "source": "any text"},
        jobs={"worker": ("a:1", "b:1")}, task_type="worker", task_index=0,
    ),
    "Hosts": public(
        launch.Hosts, {"addresses": "thing", "index": FROM_0},  # of --hosts, --host_index
        addresses=("127.0.0.1:1", "127.0.0.1:9"), index=0,
    ),
    "Rendezvous": public(
        launch.Rendezvous,
        {"address": "thing", "min_workers": COUNT, "max_workers": COUNT, "workers_per_host": COUNT,
         "job_name": "any text", "host_address": "text or None", "settle_seconds": "from 0",
         "join_seconds": "positive", "checks_memory": "boolean"},
        address="127.0.0.1:29400", min_workers=2, max_workers=4,
    ),
    "launch_elastic_workers": public(
        launch.launch_elastic_workers,
        {"command": "thing", "rendezvous": "thing", "grace_seconds": "from 0",
         "max_restarts": FROM_0, "early_seconds": "from 0", "start_seconds": "positive or None",
         "log_dir": "path or None"},
        command=["true"],
        rendezvous=launch.Rendezvous("127.0.0.1:29401", min_workers=1, max_workers=1),
    ),
    "launch_local_workers": public(
        launch.launch_local_workers,
        {"command": "thing", "num_workers": COUNT, "num_ps": FROM_0, "hosts": "thing or None",
         "grace_seconds": "from 0", "max_restarts": f"{FROM_0} or None",
         "early_seconds": "from 0", "start_seconds": "positive or None",
         "log_dir": "path or None"},
        command=["true"], num_workers=1,
    ),
}  # fmt: skip


def accepted(kind: str) -> set[str]:
    base = kind.removesuffix(" or None")
    also = {"None"} if base != kind else set()
    return also | ({"function"} if base == "callable" else KINDS[base])


def outcome(case: Public, name: str, value: Any) -> str:
    try:
        case.call(**{**case.right, name: value})
    except ValueError as error:
        text = str(error)
        is_named = any(f"`{word}`" in text for word in (name, OTHERWISE.get(name)))
        return "named" if is_named and "Received" in text else f"unnamed: {text[:90]}"
    except Exception as error:
        return f"raw: {type(error).__name__}: {str(error)[:90]}"
    return "accepted"


@pytest.mark.parametrize("public_name", CASES)
def test_a_wrong_argument_is_a_value_error_that_names_it(public_name: str) -> None:
    case = CASES[public_name]
    wrong = {
        f"{name}={shown}": outcome(case, name, value)
        for name, kind in case.kinds.items()
        for shown, value in WRONG.items()
        if shown not in accepted(kind)
    }
    assert {call: found for call, found in wrong.items() if found != "named"} == {}


@pytest.mark.parametrize("public_name", sorted(set(CASES) - TESTED_ELSEWHERE))
def test_the_arguments_that_are_swept_are_right_otherwise(public_name: str) -> None:
    case = CASES[public_name]
    case.call(**case.right)
