"""What was planned beside what TensorFlow's allocator gave: a table of docs/howto/plan_memory.md.

python -m tests.unit.tfscale.plan.comparison [NAME...]
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys

from tests.programs import run_program
from tests.unit.tfscale.plan import measured_step, planned_models
from tests.unit.tfscale.plan.measured_step import Case, Measured
from tfscale.plan import DeviceMemory, memory_plan

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
}
"""By name; replicas are logical CPUs of one process, workers processes of their own."""


def planned(case: Case) -> DeviceMemory:
    """Returns the plan of a case."""
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
    return only.memory


def measured(case: Case) -> Measured:
    """Trains a case in other processes, and returns what the one needed that needed most."""
    command = ["-m", measured_step.__name__, json.dumps(dataclasses.asdict(case))]
    if case.workers > 1:
        launch = ["-m", "tfscale", "launch", f"--num_workers={case.workers}", "--grace_seconds=1"]
        command = [*launch, "--", sys.executable, *command]
    printed = run_program(*command, timeout=300)
    found = [Measured(**json.loads(each)) for each in re.findall(r'({"requested".*})', printed)]
    assert len(found) == case.workers, printed[-3000:]
    return Measured(
        max(each.requested for each in found),
        max(each.blocks for each in found),
        {str(worker): max(each.stored.values()) for worker, each in enumerate(found)},
    )


def sizes(case: Case, memory: DeviceMemory) -> tuple[int, int]:
    """Returns the bytes that all replicas ask for beside variables, and those of the blocks."""
    requested = case.replicas * (memory.batch + memory.made)
    return requested, requested + case.replicas * memory.padding


def row(name: str) -> str:
    """Returns a row of the table: MiB, planned and measured."""
    case = CASES[name]
    memory, found = planned(case), measured(case)
    asked, blocks = sizes(case, memory)
    stored = memory.parameters + memory.slots - max(found.stored.values())
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
