"""Gradients passed to `optimizer.apply`: each is reduced over the replicas exactly once.

In a step a gradient from `tape.gradient` already is the mean over all examples, whatever was done
to it since. Gradients of `local_gradients()`, and those that were computed by hand from a
replica's examples, are reduced now. A mixture of both cannot be right: one device would have
computed its local part from the whole batch.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import OWN, Source, called_bodies, outer_tensor
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.gradients.gradient_reduce import Gradient, reduce_gradients
from strategies.keras_support.gradients.step_reduce import reduce_in_step

_LINEAR = {
    "AddN",
    "Add",
    "AddV2",
    "Cast",
    "ConcatV2",
    "ExpandDims",
    "GatherV2",
    "Identity",
    "IdentityN",
    "Mean",
    "Neg",
    "Pack",
    "PreventGradient",
    "Reshape",
    "Slice",
    "Split",
    "SplitV",
    "Squeeze",
    "StopGradient",
    "StridedSlice",
    "Sub",
    "Sum",
    "Transpose",
    "Unpack",
    "UnsortedSegmentSum",
}
_PRODUCTS = {"Mul", "RealDiv", "MatMul", "BatchMatMulV2", "MulNoNan", "DivNoNan"}
_SIZES = {"Shape", "Size", "Rank", "ZerosLike", "OnesLike"}
_CONTROL = {"If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}


def gradients_to_apply(
    optimizer: Any, gradients: list[Gradient | None], loss: tf.Tensor | None
) -> tuple[list[Gradient | None], tf.Tensor | None]:
    """Returns gradients that are the same on all replicas, and the global batch's loss.

    Args:
        optimizer: The outermost one; its name is for messages.
        gradients: What it was given, in replica context; `None` where a variable has none.
        loss: This replica's loss if it is asked for, or None.

    Raises:
        ValueError: If a gradient mixes reduced and local parts, or has to be reduced where replicas
            cannot communicate.
    """
    step = current_step()
    if step is None:
        return reduce_gradients(gradients, None), loss
    local = [i for i, g in enumerate(gradients) if g is not None and _is_local(g, step, optimizer)]
    if not step.is_in_main_graph():
        if local:
            raise ValueError(
                f"`optimizer.apply` of {optimizer.name!r} in a tf.cond, tf.while_loop or "
                "tf.function must receive gradients that were computed outside of it, because "
                "replicas cannot average gradients inside. Received: gradients computed inside. "
                "Call tape.gradient before it."
            )
        step.inner_updates.append((optimizer, tf.compat.v1.get_default_graph()))
        return gradients, step.reduced_loss
    asked = loss if step.reduced_loss is None else None
    if local or asked is not None:
        reduced = reduce_in_step([gradients[i] for i in local], asked)
        for i, g in zip(local, reduced, strict=True):
            gradients[i] = g
    return gradients, step.reduced_loss


def _is_local(gradient: Gradient, step: StepContext, optimizer: Any) -> bool:
    """Tells whether a gradient is local, so not reduced yet."""
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    source = step.lineage.of(values)
    if not source & Source.REDUCED:
        if source & Source.LOCAL_GRADIENT:
            _refuse_uses(values, step, optimizer)
        # A value that does not depend on replica data is equal on all replicas, and stays as it is
        # where replicas cannot communicate.
        return bool(source & OWN) or step.is_in_main_graph()
    if source & OWN:
        raise ValueError(
            f"`grads` of optimizer {optimizer.name!r} must not mix gradients from tape.gradient, "
            "which are means over all replicas' examples, with values that depend on one "
            "replica's examples or random numbers. Received: a gradient computed from both. "
            "Compute the other "
            "part from all examples too (tfscale.mean_over_replicas, tfscale.sum_over_replicas), "
            "or draw the same numbers on all replicas: tf.random.stateless_normal with a common "
            "seed."
        )
    return False


def _refuse_uses(values: Any, step: StepContext, optimizer: Any) -> None:
    """Checks that local gradients were only added up and scaled on their way to `values`."""
    if not tf.is_symbolic_tensor(values):
        return
    waiting, seen = [values], set()
    while waiting:
        tensor = waiting.pop()
        key = (id(tensor.graph), tensor.name)
        if key in seen or step.lineage.is_marked(tensor):
            continue
        seen.add(key)
        operation = tensor.op
        inputs = [t for t in operation.inputs if t.dtype != tf.resource]
        if operation.type == "Placeholder":
            outer = outer_tensor(tensor)
            waiting += [outer] if outer is not None and tf.is_symbolic_tensor(outer) else []
            continue
        if operation.type in _CONTROL or called_bodies(operation):
            for name in called_bodies(operation):
                _refuse_uses_inside(step.lineage.body(name), step, optimizer)
            continue
        local = [t for t in inputs if step.lineage.of(t) & Source.LOCAL_GRADIENT]
        if local and not _is_linear(operation, local):
            raise _used(optimizer, operation)
        waiting += local


def _refuse_uses_inside(graph: Any, step: StepContext, optimizer: Any) -> None:
    """Checks the uses of local gradients inside a condition or a loop."""
    if graph is None:
        return
    # What a loop passes to its next round takes the place of what it began with.
    local = {t.name for t in step.lineage.marked_in(graph)}
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    while True:
        before = len(local)
        for operation in graph.get_operations():
            found = [t for t in operation.inputs if t.name in local]
            if not found or all(t.name in local for t in operation.outputs):
                continue
            if operation.type in _SIZES:
                continue
            if not _is_linear(operation, found):
                raise _used(optimizer, operation)
            local |= {t.name for t in operation.outputs}
        for given, handed_on in zip(inputs, outputs, strict=False):
            if handed_on.name in local and given.dtype == handed_on.dtype:
                local.add(given.name)
        if len(local) == before:
            return


def _is_linear(operation: Any, local: list[Any]) -> bool:
    """Tells whether an operation only adds up or scales its inputs `local`."""
    if operation.type not in _PRODUCTS:
        return operation.type in _LINEAR
    is_divided = operation.type in ("RealDiv", "DivNoNan")
    return len(local) == 1 and (not is_divided or local[0] is operation.inputs[0])


def _used(optimizer: Any, operation: Any) -> ValueError:
    return ValueError(
        f"`grads` of optimizer {optimizer.name!r} must not be clipped, squared or measured before "
        "they are reduced over the replicas. Inside tf.cond, tf.while_loop, tf.function and "
        "tfscale.local_gradients() they may only be added and scaled. Received: a gradient that "
        f"went through {operation.type} ({operation.name!r}). Do it after the loop, or call "
        "tape.gradient outside."
    )


def refuse_local_conditions(step: StepContext) -> None:
    """Checks at the end of a step that replicas do not decide separately whether to update.

    Raises:
        ValueError: If the condition around an `apply` depends on a replica's own examples.
    """
    for optimizer, graph in step.inner_updates:
        inner = graph
        while inner is not None and hasattr(inner, "outer_graph"):
            outer = inner.outer_graph
            if outer is None or not hasattr(outer, "get_operations"):
                break
            for operation in outer.get_operations():
                if operation.type not in _CONTROL or inner.name not in called_bodies(operation):
                    continue
                if "While" not in operation.type and step.lineage.of(operation.inputs[0]) & OWN:
                    raise ValueError(
                        f"`pred` of the tf.cond around optimizer {optimizer.name!r} must be the "
                        "same on all replicas, or their weights diverge. Received: a condition "
                        "that depends on one replica's examples. Take the mean over all replicas "
                        "first: tf.cond(tf.math.is_finite(tfscale.mean_over_replicas(loss)), ...)."
                    )
            inner = outer if inner is not outer else None
