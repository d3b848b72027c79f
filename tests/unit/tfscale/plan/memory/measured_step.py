"""Program: trains a model of `planned_models`, and prints what a step of it took.

    python -m tests.unit.tfscale.plan.memory.measured_step CASE

CASE is a `Case` as JSON. The line is a `Measured`, as JSON.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to train a model.

    Attributes:
        function: Of `planned_models`.
        replicas: Logical CPUs of one process.
        workers: Processes, of one replica each if there are several.
        microbatches: Of each replica batch.
        recompute: Layers, or "".
        shard: Stage.
        precision: A dtype policy.
        stages: Of a pipeline, each on a logical CPU of its own.
        schedule: Of a pipeline.
        begins: Names of the layers at which its stages begin, but for the first.
        tensor: Logical CPUs over which each replica divides its matrices by the default rules.
    """

    function: str
    replicas: int = 1
    workers: int = 1
    microbatches: int = 1
    recompute: str = ""
    shard: int = 0
    precision: str = "float32"
    stages: int = 1
    schedule: str = "1f1b"
    begins: Sequence[str] = ()
    tensor: int = 1

    @property
    def devices(self) -> int:
        """Of a replica."""
        return self.stages * self.tensor


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a process found.

    Attributes:
        requested: Bytes that a step asked for at its peak, beyond those before.
        blocks: Bytes of the allocator's blocks for them.
        stored: Bytes of weights and slots, by device.
    """

    requested: int
    blocks: int
    stored: dict[str, int]


def measured(case: Case) -> Measured:
    """Trains twice, and measures the second time."""
    import keras
    import tensorflow as tf

    import tfscale
    from tests.unit.tfscale.plan.memory import planned_models
    from tests.unit.tfscale.plan.memory.allocator_trace import recorded_peak

    keras.config.set_dtype_policy(case.precision)
    with _strategy(case).scope():
        model, (x, y) = getattr(planned_models, case.function)()
        model.jit_compile = False
        if case.tensor > 1:
            tfscale.parallel.tensor_parallel(model, planned_models.RULES)
    if case.recompute:
        tfscale.recompute(model, case.recompute)
    if case.stages > 1:
        tfscale.parallel.Pipeline(
            model, list(case.begins), case.microbatches, schedule=case.schedule
        )
    data = tf.data.Dataset.from_tensors((x, y)).repeat(3)
    is_pipeline = case.stages > 1
    parts = [] if is_pipeline else [tfscale.callbacks.Microbatches(case.microbatches)]
    model.fit(data, verbose=0, callbacks=parts)
    gc.collect()
    with recorded_peak() as peak:
        model.fit(data, verbose=0, callbacks=parts)
    stored = bytes_on_devices([*model.weights, *model.optimizer.variables])
    return Measured(peak.requested, peak.blocks, dict(stored))


def _strategy(case: Case) -> Any:
    import strategies

    if case.workers > 1:
        return strategies.multi_worker_mirrored_strategy(shard=case.shard, all_reduce="ring")
    if case.replicas * case.devices > 1:
        return strategies.mirrored_strategy(
            num_replicas=case.replicas, shard=case.shard, devices_per_replica=case.devices
        )
    return strategies.one_device_strategy("CPU:0")


def bytes_on_devices(variables: Iterable[Any]) -> Counter[str]:
    """Returns the bytes of Keras variables by device, read from the variables of TensorFlow."""
    sizes: Counter[str] = Counter()
    for variable in variables:
        value = variable._value
        for own in getattr(value, "parts", getattr(value, "values", (value,))):
            if own is None:  # another worker's
                continue
            sizes[own.device.rpartition("device:")[2]] += own.shape.num_elements() * own.dtype.size
    return sizes


if __name__ == "__main__":
    # This allocator records what it does; the usual one does not.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"
    print(json.dumps(dataclasses.asdict(measured(Case(**json.loads(sys.argv[1]))))), flush=True)
