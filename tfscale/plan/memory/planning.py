"""Plans the memory of a training: every configuration asked for, and the cheapest that fits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import one_of, text, whole_number
from tfscale.parallel import TRANSFORMER, TensorRule
from tfscale.plan.memory.costs import Configuration, cheapest
from tfscale.plan.memory.device_memory import SHARDS
from tfscale.plan.memory.model_parallel import Division, at_least_one, check_replication, divisions
from tfscale.plan.memory.planned_model import PlannedModel
from tfscale.plan.memory.replicated_step import Replication
from tfscale.plan.memory.traced_model import (
    AS_IS,
    BLOCKS,
    PARAMETER,
    NoGradients,
    StepMemory,
    TracedModel,
    VariableMemory,
)
from tfscale.preflight.batches import replica_batch
from tfscale.verify.user_model import WrongUsage, checked_model, in_one_line


class Untraceable(Exception):
    """Raised if a step cannot be traced. The text is one line with the cure."""


PRECISIONS = (AS_IS, "float64", "float32", "mixed_bfloat16", "mixed_float16")
_LONGEST_ERROR = 300
_TRIED = (1, 2, 4, 8, 16)
DEFAULT_BATCH = 32
"""Examples of a global batch if the data are arrays and no number is given."""


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a training, by configuration.

    Attributes:
        replicas: Replicas, of one device each where a configuration does not say otherwise.
        global_batch_size: Examples of a step, over all replicas.
        memory_per_device: Bytes, or None if no limit was given.
        optimizer: Name of the optimizer's class.
        variables: Every variable of model, optimizer and metrics, in the first precision.
        configurations: All that were asked for.
        cheapest: The one that fits and costs least; None if none fits.
        notes: What the figures leave out, for this model.
    """

    replicas: int
    global_batch_size: int
    memory_per_device: int | None
    optimizer: str
    variables: tuple[VariableMemory, ...]
    configurations: tuple[Configuration, ...]
    cheapest: Configuration | None
    notes: tuple[str, ...] = ()

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the model."""
        return sum(v.bytes // v.element_bytes for v in self.variables if v.role == PARAMETER)

    @property
    def missing_bytes(self) -> int:
        """Bytes that a device lacks for the smallest configuration; 0 if one fits."""
        if self.cheapest is not None or self.memory_per_device is None:
            return 0
        return min(c.memory.total for c in self.configurations) - self.memory_per_device


def memory_plan(
    build: Callable[[], tuple[keras.Model, Any]],
    *,
    replicas: int = 1,
    workers: int = 1,
    global_batch_size: int | None = None,
    memory_per_device: int | None = None,
    shard: Iterable[int] | None = None,
    precision: Iterable[str] = (AS_IS,),
    microbatches: Iterable[int] | None = None,
    recompute: Iterable[str] | None = None,
    pipeline_stages: Iterable[int] = (1,),
    pipeline_schedule: Iterable[str] | None = None,
    pipeline_virtual_stages: int = 1,
    tensor_parallel: Iterable[int] = (1,),
    tensor_rules: Sequence[TensorRule] = TRANSFORMER,
    say: Callable[[str], None] | None = None,
) -> MemoryPlan:
    """Computes the memory of each device for training a model on many devices, without any of them.

    Parameters and slots are exact: the optimizer is really built, on variables of which large ones
    have a shape and no memory, so a model may be larger than this host. Activations are found by
    tracing a step of one replica and following its tensors from the operation that makes them to
    the last one that reads them, in blocks of TensorFlow's allocator. They are those of
    TensorFlow's CPU executor; kernels' own workspaces (cuDNN's, for instance) come on top.

    Args:
        build: Returns a compiled model and its data: arrays, a batched `tf.data.Dataset`, a
            `keras.utils.PyDataset` or a `Pipeline`. Called once for each precision.
        replicas: Devices, or groups of `pipeline_stages` or `tensor_parallel` devices. Positive.
        workers: Processes that the replicas are divided among, which divides `replicas`. Several
            send gradients in packs of 16 MiB, replicas of one process all of them as one.
        global_batch_size: Examples of a step, a multiple of `replicas`. None takes the batch size
            of the data, or 32 if they are arrays.
        memory_per_device: Bytes. None sets no limit.
        shard: What replicas divide: 0 nothing, 1 the optimizer's slots, 2 and gradients, 3 and
            parameters. None tries all.
        precision: "as_is", or dtype policies that are set before `build` is called.
        microbatches: Parts of a replica batch, computed one after another. None tries 1, 2, 4, 8
            and 16, as far as they divide a replica batch.
        recompute: Which layers compute their activations again in the backward pass: "as_is" for
            those that the model was built with, "blocks" for the layers directly in the model that
            contain layers, or a regular expression for `tfscale.recompute`. None tries "as_is" and,
            if there are any, "blocks".
        pipeline_stages: Devices of a replica of which each has some of the layers: see
            `tfscale.parallel.Pipeline`. Where the model is cut is balanced by estimated costs.
        pipeline_schedule: "gpipe", "1f1b" and "interleaved": in which order stages compute
            microbatches. None plans for "1f1b".
        pipeline_virtual_stages: Runs of layers on each device, for "interleaved".
        tensor_parallel: Devices of a replica of which each has parts of the matrices: see
            `tfscale.parallel.tensor_parallel`. Not together with stages.
        tensor_rules: How matrices are divided, if `build` does not divide them.
        say: Called with each line of progress.

    Returns:
        A `MemoryPlan`.

    Raises:
        ValueError: If an argument is out of range, `global_batch_size` does not divide, or the
            step does not apply gradients with the model's optimizer.

    Example:
        >>> def build():
        ...     model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        ...     model.compile("adam", "mse")
        ...     return model, (keras.ops.ones((16, 8)), keras.ops.ones((16, 4)))
        >>> plan = memory_plan(build, replicas=2, shard=[0, 1], microbatches=[1])
        >>> [configuration.memory.slots for configuration in plan.configurations]
        [300, 156]

    Source: Rajbhandari et al. 2020, "ZeRO", arXiv:1910.02054, section 5.
    """
    count = whole_number("replicas", replicas)
    processes = whole_number("workers", workers)
    if count % processes:
        raise ValueError(
            f"`workers` must divide the {count} replicas. Received: workers={processes}. Use "
            "processes with the same number of devices."
        )
    given = SHARDS if shard is None else shard
    shards = at_least_one("shard", (whole_number("shard", v, at_least=0, below=4) for v in given))
    if count == 1:
        shards = [0]
    ways = divisions(pipeline_stages, pipeline_schedule, pipeline_virtual_stages, tensor_parallel)
    for division in ways:
        is_free = shard is None and division.tensor_parallel > 1
        check_replication(division, processes, [0] if is_free else shards)
    precisions = at_least_one(
        "precision", (one_of("precision", each, PRECISIONS) for each in precision)
    )
    asked = _Asked(
        build,
        count,
        processes,
        global_batch_size,
        memory_per_device,
        tuple(shards),
        None if microbatches is None else tuple(microbatches),
        None if recompute is None else tuple(recompute),
        tuple(tensor_rules),
        say or (lambda line: None),
        [],
    )
    found: list[Configuration] = []
    notes: dict[str, None] = {}
    first: TracedModel | None = None
    for policy in precisions:
        for alike in _traced_together(ways):
            with _dtype_policy(policy):
                model, rows, configurations = _configurations(asked, policy, alike, notes)
            first = first or model
            found += configurations
    assert first is not None
    return MemoryPlan(
        replicas=count,
        global_batch_size=rows,
        memory_per_device=memory_per_device,
        optimizer=first.optimizer,
        variables=first.variables,
        configurations=tuple(found),
        cheapest=cheapest(found),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Asked:
    """The arguments of `memory_plan`, checked, as far as all configurations share them."""

    build: Callable[[], Any]
    replicas: int
    workers: int
    global_batch_size: int | None
    limit: int | None
    shards: tuple[int, ...]
    microbatches: tuple[int, ...] | None
    recompute: tuple[str, ...] | None
    rules: tuple[TensorRule, ...]
    say: Callable[[str], None]
    names: list[str]


def _traced_together(ways: Sequence[Division]) -> list[list[Division]]:
    """Returns the divisions for which a model is traced in the same way."""
    found: dict[tuple[bool, int], list[Division]] = {}
    for each in ways:
        found.setdefault((each.pipeline_stages > 1, each.tensor_parallel), []).append(each)
    return list(found.values())


def _configurations(
    asked: _Asked, policy: str, ways: Sequence[Division], notes: dict[str, None]
) -> tuple[TracedModel, int, list[Configuration]]:
    """Returns a model in one precision, the rows of its global batch, and all its configurations.

    Args:
        asked: The arguments.
        policy: The precision.
        ways: Divisions for which it is traced in the same way.
        notes: What was noted before; grows.
    """
    report, count = asked.say, asked.replicas
    named = "its" if policy == AS_IS else policy
    tensors, is_pipeline = ways[0].tensor_parallel, ways[0].pipeline_stages > 1
    divided = "" if tensors == 1 else f", divided by {tensors}"
    report(f"building the model in {named} precision{divided}")
    traced = _built(asked, tensors)
    rows = asked.global_batch_size or traced.rows
    parts = _parts(rows, count, asked.microbatches)
    if not asked.names:  # of the first model: Keras numbers those of later ones differently
        asked.names.extend(traced.operation_names())
    planned = PlannedModel(traced, is_pipeline, asked.names)
    of_ways = {
        each: each.microbatches(parts, are_asked_for=asked.microbatches is not None)
        for each in ways
    }
    choices = _recomputed(traced, asked.recompute)
    least = 0.0  # floating-point operations of an example, if nothing is computed again
    if choices != [AS_IS]:
        own = rows // count // max(parts)
        report(f"tracing a step of {own} examples, to count its operations")
        least = _traced(traced, own).graph.flops / own
    found: list[Configuration] = []
    for choice in choices:
        traced.recompute(choice)
        for number in parts:
            own = rows // count // number
            again = "" if choice == AS_IS else f", recomputing {choice}"
            pieces = " in pieces" if is_pipeline else ""
            report(f"tracing a step of {own} examples{pieces}{again}")
            step = _traced(traced, own)
            notes |= dict.fromkeys(step.graph.notes)
            more = 0 if choice == AS_IS else step.graph.flops - round(least * own)
            for division in (each for each in ways if number in of_ways[each]):
                for shard in asked.shards if tensors == 1 else (0,):
                    how = Replication(count, asked.workers, shard, number)
                    memory = planned.on_devices(step, how, division)
                    most = memory.largest.total
                    found.append(
                        Configuration(
                            shard=shard,
                            precision=policy,
                            microbatches=number,
                            recompute=choice,
                            memory=memory.largest,
                            communicated_bytes=memory.communicated_bytes,
                            recomputed_flops=more * number // division.devices,
                            fits=asked.limit is None or most <= asked.limit,
                            division=division,
                            devices=memory.devices,
                            stages=memory.stages,
                        )
                    )
    return traced, rows, found


def _traced(model: TracedModel, rows: int) -> StepMemory:
    try:
        return model.step(rows)
    except NoGradients:
        raise
    except Exception as error:
        raise Untraceable(
            f"a step of {rows} examples cannot be traced: {in_one_line(error)[:_LONGEST_ERROR]} "
            "Run one step of `fit` on this machine first."
        ) from error


def _built(asked: _Asked, tensors: int) -> TracedModel:
    try:
        return TracedModel(
            lambda: checked_model("build", asked.build()),
            lambda data: _batch(data, asked.global_batch_size),
            devices=tensors,
            rules=asked.rules,
        )
    except (WrongUsage, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.OpError) or isinstance(error.__cause__, tf.errors.OpError):
            raise ValueError(
                "`build` must not compute with the model, because large variables have no values "
                f"while a plan is made. Received: a function in which {in_one_line(error)[:150]} "
                "Leave predict, evaluate, fit and loading of weights out of it."
            ) from error
        raise ValueError(str(error)) from error


def _recomputed(model: TracedModel, recompute: Iterable[str] | None) -> list[str]:
    """Returns the choices of layers to recompute; the cheapest first, as the others' reference."""
    if recompute is None:
        return [AS_IS, BLOCKS] if model.has_blocks else [AS_IS]
    chosen = at_least_one("recompute", (text("recompute", each) for each in recompute))
    return sorted(chosen, key=lambda choice: choice != AS_IS)


def _parts(rows: int, replicas: int, microbatches: Iterable[int] | None) -> list[int]:
    """Returns the numbers of microbatches to plan for."""
    if rows % replicas:
        raise ValueError(
            f"`global_batch_size` must be a multiple of the {replicas} replicas. Received: "
            f"global_batch_size={rows}. Use {-(-rows // replicas) * replicas}."
        )
    own = rows // replicas
    if microbatches is None:
        return [number for number in _TRIED if own % number == 0]
    parts = at_least_one(
        "microbatches", (whole_number("microbatches", v, below=2**31) for v in microbatches)
    )
    for number in parts:
        if own % number:
            raise ValueError(
                f"`microbatches` must divide the {own} examples of a replica batch. Received: "
                f"microbatches={number}. Choose another number, or another global_batch_size."
            )
    return parts


def _batch(data: Any, global_batch_size: int | None) -> Any:
    """Returns the specification of a global batch."""
    spec = replica_batch(data, 1, global_batch_size or DEFAULT_BATCH, None).spec
    for part in tf.nest.flatten(spec):
        if part is not None and not isinstance(part, tf.TensorSpec):
            raise ValueError(
                "`data` must be dense, because the sizes of other tensors depend on their values. "
                f"Received: a {type(part).__name__}. Convert it, or plan with padded data."
            )
    return spec


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Makes a dtype policy Keras's default inside."""
    before, floatx = keras.config.dtype_policy(), keras.config.floatx()
    try:
        if name != AS_IS:
            keras.config.set_floatx("float64" if name == "float64" else "float32")
            keras.config.set_dtype_policy(name)
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(before)
