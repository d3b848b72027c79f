"""What was planned beside what TensorFlow's allocator gave: a table of docs/howto/plan_memory.md.

python -m tests.unit.tfscale.plan.memory.comparison [NAME...]
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any

import keras
import tensorflow as tf

from tests.programs import run_program
from tests.unit.tfscale.plan.memory import measured_step, planned_models
from tests.unit.tfscale.plan.memory.measured_step import Case, Measured
from tfscale.plan import DeviceMemory, memory_plan
from tfscale.plan.memory.model_parallel import Division
from tfscale.plan.memory.planned_model import PlannedModel
from tfscale.plan.memory.replicated_step import Replication
from tfscale.plan.memory.traced_model import TracedModel

_BLOCKS = "block.*"
CASES = {
    "MLP": Case("mlp"),
    "MLP, more weights than activations": Case("wide_mlp"),
    "CNN, bias and ReLU": Case("plain_cnn"),
    "CNN, BatchNormalization": Case("batch_norm_cnn"),
    "CNN, residual": Case("residual_cnn"),
    "CNN, depthwise": Case("depthwise_cnn"),
    "transformer": Case("transformer"),
    "LSTM": Case("lstm"),
    "embedding of 20,000 rows": Case("embedding"),
    "transformer, 4 microbatches": Case("transformer", microbatches=4),
    "transformer, blocks recomputed": Case("transformer", recompute=_BLOCKS),
    "the same in mixed_bfloat16, 19 million weights": Case(
        "wide_transformer", recompute=_BLOCKS, precision="mixed_bfloat16"
    ),
    "transformer in mixed_bfloat16": Case("transformer", precision="mixed_bfloat16"),
    "MLP with an average of weights": Case("averaging_mlp"),
    "MLP with accumulation": Case("accumulating_mlp"),
    "MLP with AdamW": Case("decaying_mlp"),
    "MLP in mixed_float16": Case("mlp", precision="mixed_float16"),
    "transformer, 2 replicas": Case("transformer", replicas=2),
    "transformer, 2 replicas, shard 1": Case("transformer", replicas=2, shard=1),
    "transformer, 2 replicas, shard 2": Case("transformer", replicas=2, shard=2),
    "transformer, 2 replicas, shard 3": Case("transformer", replicas=2, shard=3),
    "MLP of 21 million weights, 2 replicas": Case("wider_mlp", replicas=2),
    "MLP of 21 million weights, 2 replicas, shard 1": Case("wider_mlp", replicas=2, shard=1),
    "MLP of 21 million weights, 2 replicas, shard 2": Case("wider_mlp", replicas=2, shard=2),
    "MLP of 21 million weights, 2 replicas, shard 3": Case("wider_mlp", replicas=2, shard=3),
    "MLP of 21 million weights, 2 workers": Case("wider_mlp", workers=2),
    "MLP of 21 million weights, 2 workers, shard 1": Case("wider_mlp", workers=2, shard=1),
    "MLP of 21 million weights, 2 workers, shard 2": Case("wider_mlp", workers=2, shard=2),
    "MLP of 21 million weights, 2 workers, shard 3": Case("wider_mlp", workers=2, shard=3),
    "transformer, 2 workers, shard 1": Case("transformer", workers=2, shard=1),
    "transformer, 2 workers, shard 2": Case("transformer", workers=2, shard=2),
    "transformer, 2 workers, shard 3": Case("transformer", workers=2, shard=3),
    "the same, 4 microbatches": Case("transformer", workers=2, shard=3, microbatches=4),
    "the same, blocks recomputed": Case("transformer", workers=2, shard=3, recompute=_BLOCKS),
    "transformer of 19 million weights in mixed_bfloat16, 2 workers, shard 3": Case(
        "wide_transformer", workers=2, shard=3, precision="mixed_bfloat16"
    ),
    "the same, its blocks recomputed": Case(
        "wide_transformer", workers=2, shard=3, precision="mixed_bfloat16", recompute=_BLOCKS
    ),
    "MLP with an average of weights, 2 workers, shard 2": Case("averaging_mlp", workers=2, shard=2),
    "MLP with AdamW, 2 workers, shard 1": Case("decaying_mlp", workers=2, shard=1),
    "transformer, 2 stages, gpipe, 8 microbatches": Case(
        "transformer", stages=2, schedule="gpipe", microbatches=8
    ),
    "transformer, 2 stages, 1f1b, 8 microbatches": Case("transformer", stages=2, microbatches=8),
    "transformer, 4 stages, 1f1b, 8 microbatches": Case("transformer", stages=4, microbatches=8),
    "the same, 2 stages, blocks recomputed": Case(
        "transformer", stages=2, microbatches=8, recompute=_BLOCKS
    ),
    "transformer, 2 replicas of 2 stages, 4 microbatches": Case(
        "transformer", replicas=2, stages=2, microbatches=4
    ),
    "the same, shard 3": Case("transformer", replicas=2, stages=2, microbatches=4, shard=3),
    "CNN, residual, 2 stages, gpipe, 4 microbatches": Case(
        "residual_cnn", stages=2, schedule="gpipe", microbatches=4
    ),
    "CNN, residual, 2 stages, 1f1b, 4 microbatches": Case("residual_cnn", stages=2, microbatches=4),
    "MLP, 3 stages, 1f1b, 8 microbatches": Case("mlp", stages=3, microbatches=8),
    "MLP of 21 million weights, 2 stages, 1f1b, 4 microbatches": Case(
        "wider_mlp", stages=2, microbatches=4
    ),
    "transformer, matrices over 2 devices": Case("transformer", tensor=2),
    "transformer, matrices over 4 devices": Case("transformer", tensor=4),
    "transformer of 19 million weights, matrices over 2 devices": Case(
        "wide_transformer", tensor=2
    ),
}
"""By name; replicas and their devices are logical CPUs of one process, workers processes of their
own."""


def planned(case: Case) -> tuple[DeviceMemory, Case, list[int]]:
    """Returns the plan of a case, where its stages begin, and what each device stores."""
    if case.devices > 1:
        return _planned_together(case)
    build = getattr(planned_models, case.function)
    (only,) = memory_plan(
        build,
        replicas=case.replicas * case.workers,
        workers=case.workers,
        global_batch_size=len(build()[1][0]),
        shard=[case.shard],
        precision=[case.precision],
        microbatches=[case.microbatches],
        recompute=[case.recompute or "as_is"],
    ).configurations
    return only.memory, case, [only.memory.parameters + only.memory.slots]


def _planned_together(case: Case) -> tuple[DeviceMemory, Case, list[int]]:
    """Plans for devices that share the memory of one process, as logical CPUs do."""
    keras.utils.clear_session(free_memory=False)  # names begin at the same numbers
    build = getattr(planned_models, case.function)

    def spec(data: Any) -> Any:
        return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), data)

    model = TracedModel(build, spec, devices=case.tensor, rules=planned_models.RULES)
    whole = PlannedModel(model, case.stages > 1, model.operation_names())
    if case.recompute:
        model.recompute(case.recompute)
    step = model.step(model.rows // case.replicas // case.microbatches)
    how = Replication(case.replicas, 1, case.shard, case.microbatches)
    schedule = case.schedule if case.stages > 1 else ""
    division = Division(case.stages, schedule, 1, case.tensor)
    apart = whole.on_devices(step, how, division)
    (together,) = whole.on_devices(step, how, division, are_apart=False).devices
    stored = [each.parameters + each.slots for each in apart.devices]
    return together, dataclasses.replace(case, begins=apart.stages), stored


def measured(case: Case) -> Measured:
    """Trains a case in other processes, and returns what the one needed that needed most."""
    command = ["-m", measured_step.__name__, json.dumps(dataclasses.asdict(case))]
    if case.workers > 1:
        launch = ["-m", "tfscale", "launch", f"--num_workers={case.workers}", "--grace_seconds=1"]
        command = [*launch, "--", sys.executable, *command]
    printed = run_program(*command, timeout=600)
    found = [Measured(**json.loads(each)) for each in re.findall(r'({"requested".*})', printed)]
    assert len(found) == case.workers, printed[-3000:]
    if case.workers == 1:
        return found[0]
    return Measured(
        max(each.requested for each in found),
        max(each.blocks for each in found),
        {str(worker): max(each.stored.values()) for worker, each in enumerate(found)},
    )


def sizes(case: Case, memory: DeviceMemory) -> tuple[int, int]:
    """Returns the bytes that all replicas ask for beside variables, and those of the blocks."""
    requested = case.replicas * (memory.batch + memory.made)
    return requested, requested + case.replicas * memory.padding


def difference(case: Case, planned: list[int], found: Measured) -> int:
    """Returns the bytes by which the variables on the fullest replica's devices are not as planned.

    Args:
        case: What was planned and measured.
        planned: Bytes by device.
        found: What was measured.
    """
    names = sorted(found.stored)
    replicas = [names[i : i + case.devices] for i in range(0, len(names), case.devices)]
    fullest = max(replicas, key=lambda own: sum(found.stored[name] for name in own))
    pairs = zip(planned, fullest, strict=True)
    return sum(abs(own - found.stored[name]) for own, name in pairs)


def row(name: str) -> str:
    """Returns a row of the table: MiB, planned and measured."""
    memory, case, of_devices = planned(CASES[name])
    found = measured(case)
    asked, blocks = sizes(case, memory)
    stored = difference(case, of_devices, found)
    shown = [
        f"{planned / 2**20:.1f} / {seen / 2**20:.1f} ({planned / seen - 1:+.0%})"
        for planned, seen in ((asked, found.requested), (blocks, found.blocks))
    ]
    return f"| {name} | {stored} | {shown[0]} | {shown[1]} |"


if __name__ == "__main__":
    print("| planned / measured, MiB | variables, difference | asked for | in blocks |")
    print("|---|---|---|---|", flush=True)
    for each in sys.argv[1:] or CASES:
        print(row(each), flush=True)
