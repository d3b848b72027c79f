"""Finds out from measured steps why replicas differ from one device, and names the cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from strategies.extension import own_state
from tfscale.verify.batches import Batch, num_rows
from tfscale.verify.comparison import group_of
from tfscale.verify.known_causes import (
    DRAWS,
    DRAWS_CURE,
    Cause,
    names_read,
    own_functions,
    own_sources,
)
from tfscale.verify.layers import layers_of, metrics_of
from tfscale.verify.probes import (
    Behaviour,
    Probes,
    Step,
    behaviour,
    draws_numbers,
    mixing_layer,
    probe,
)
from tfscale.verify.trial import Trial

HELPERS = {"all_gather", "mean_over_replicas", "ratio_over_replicas", "sum_over_replicas"}
"""Functions that combine rows and are correct on several replicas."""
TOLERANCES = {"float64": 1e-7, "float32": 1e-3}
"""Relative rounding of a step by precision, far above the effect of another order of sums."""


def diagnoses(
    trial: Trial,
    initial: Sequence[np.ndarray],
    batches: Sequence[Batch],
    precision: str,
    off: Sequence[str],
) -> list[Cause]:
    """Runs steps on one device and finds results that cannot be combined from replica batches.

    Args:
        trial: How the reference was trained.
        initial: Values of `model.weights` to start from.
        batches: The batches of the training.
        precision: The precision of the model. In half precision there are no diagnoses.
        off: Names of the arrays in which the strategy differs.

    Returns:
        The diagnoses. They are properties of the program, not of the strategy.
    """
    if precision not in TOLERANCES or num_rows(batches[0]) < 3:
        return []
    tolerance = TOLERANCES[precision]
    probes = probe(trial, initial, batches)
    if draws_numbers(probes):
        own = [name for name, _ in own_functions(probes.whole.model)]
        return [Cause(" or ".join(own) or "the model", DRAWS, DRAWS_CURE)]
    groups = {group_of(name) for name in off}
    found: list[Cause] = []
    if groups & {"gradients", "loss", "weights", "statistics"}:
        found += _of_layers(probes, tolerance)
    if not found and groups & {"gradients", "loss", "weights"}:
        found += _of_gradients(probes, tolerance)
    found += _of_state(probes, tolerance, off)
    if groups & {"metrics", "evaluate"}:
        found += _of_metrics(probes, tolerance, off)
    return found


def _of_layers(probes: Probes, tolerance: float) -> Iterator[Cause]:
    name = mixing_layer(probes, tolerance)
    if not name:
        return
    layer = next(each for each in layers_of(probes.whole.model) if each.name == name)
    if names_read(type(layer)) & HELPERS:
        return
    yield Cause(
        f"layer {name!r} ({type(layer).__name__})",
        "its output for a row depends on the other rows of the batch (measured), and each replica "
        "has only a part of them",
        GATHER,
    )


GATHER = (
    "compute it from the rows of all replicas: `tfscale.mean_over_replicas(...)` for means, "
    "`tfscale.sum_over_replicas(...)` for sums, or `tfscale.all_gather(rows)`"
)


def _of_gradients(probes: Probes, tolerance: float) -> Iterator[Cause]:
    own = [name for name, _ in own_functions(probes.whole.model)]
    helped = any(names_read(source) & HELPERS for _, source in own_sources(probes.whole.model))
    losses = keras.tree.flatten(probes.whole.model.loss)
    where = " or ".join(own or [f"loss {type(each).__name__}" for each in losses])
    for number in range(len(probes.whole.gradients)):
        try:
            kind = behaviour(probes.of(_nth_gradient(number)), tolerance)
        except (IndexError, ValueError):  # the step runs other code for fewer rows
            continue
        if kind is Behaviour.MEAN or (kind in _EXACT_IN_KERAS and not own):
            continue
        if helped and kind is not Behaviour.SUM:
            continue
        yield Cause(where, *_OF_LOSSES[kind])
        return


def _nth_gradient(number: int) -> Callable[[Step], np.ndarray]:
    """Returns a function that reads the n-th gradient of a step and its loss, with equal weight."""

    def read(step: Step) -> np.ndarray:
        gradient, loss = step.gradients[number], step.targets[number]
        return np.concatenate([gradient * np.sqrt(loss.size / max(1, gradient.size)), loss])

    return read


def _state(name: str) -> Callable[[Step], np.ndarray]:
    return lambda step: step.state[name]


def _metric(name: str) -> Callable[[Step], np.ndarray]:
    return lambda step: step.metrics[name]


_EXACT_IN_KERAS = (Behaviour.SUM, Behaviour.RATIO)
"""Behaviours that are handled correctly in Keras's losses, whose reductions are known."""

_OF_LOSSES = {
    Behaviour.SUM: (
        "its loss is a scalar that sums over the rows of the batch (measured). A scalar sum looks "
        "like a mean, so the replicas' sums are averaged and the loss is 1/N of what it should be",
        "use a mean over the examples, or return one value per row, which `tape.gradient` adds up, "
        "or use a Keras loss with reduction='sum'",
    ),
    Behaviour.RATIO: (
        "its loss divides by a count over the batch (measured), such as positives or weights, and "
        "each replica counts only its own rows",
        "divide by the count over all replicas: `tfscale.ratio_over_replicas(total, count)`",
    ),
    Behaviour.WHOLE: (
        "its loss is not a mean over rows but a function of sums or means over the whole batch "
        "(measured), such as a root of a mean, an overlap or a correlation, and each replica has "
        "only the sums of its own rows",
        GATHER,
    ),
    Behaviour.PAIRS: (
        "its loss depends on pairs of rows (measured), such as a similarity matrix, and each "
        "replica compares only its own rows",
        "gather the rows of all replicas first, with `tfscale.all_gather(rows)`",
    ),
}


def _of_state(probes: Probes, tolerance: float, off: Sequence[str]) -> Iterator[Cause]:
    differs = {
        name.partition("/")[2] for name in off if group_of(name) in ("statistics", "weights")
    }
    by_path = {variable.path: variable for variable in probes.whole.model.weights}
    for name in probes.whole.state:
        path = name.partition(" ")[2]
        if name not in differs or _is_of_keras(probes.whole.model, by_path[path]):
            continue
        kind = behaviour(probes.of(_state(name)), tolerance)
        aggregation = str(getattr(by_path[path], "aggregation", "none"))
        where = f"variable {path!r}"
        if kind is Behaviour.SUM:
            yield Cause(
                where,
                "is a sum over the rows of the batch (measured: twice the rows add twice as much) "
                f"and its aggregation is {aggregation!r}, so the replicas' values are averaged",
                "use add_weight(..., aggregation='sum'), even if the old value decays",
            )
        elif kind is not Behaviour.MEAN:
            yield Cause(
                where,
                f"is {kind.value} (measured), which is not the mean of the replicas' values",
                "compute it from sums over all replicas, `tfscale.sum_over_replicas(...)`, or keep "
                "the sums in variables with aggregation='sum'",
            )


def _is_of_keras(model: Any, variable: Any) -> bool:
    """Returns whether `variable` belongs to a Keras layer, such as BatchNormalization."""
    owners = [layer for layer in layers_of(model) if any(v is variable for v in own_state(layer))]
    return any(type(layer).__module__.partition(".")[0] == "keras" for layer in owners)


def _of_metrics(probes: Probes, tolerance: float, off: Sequence[str]) -> Iterator[Cause]:
    differs = {name.partition("/")[2] for name in off if group_of(name) in ("metrics", "evaluate")}
    for metric in metrics_of(probes.whole.model):
        if metric.name not in differs or type(metric).__module__.partition(".")[0] == "keras":
            continue
        for variable in metric.variables:
            name = f"{metric.name}/{variable.name}"
            values = probes.of(_metric(name))
            if np.allclose(values.whole, values.head + values.tail, rtol=tolerance):
                continue
            if any(
                np.allclose(values.whole, joined(values.head, values.tail))
                for joined in (np.maximum, np.minimum)
            ):
                continue
            yield Cause(
                f"metric {metric.name!r} ({type(metric).__name__})",
                f"its {variable.name!r} for a batch is not the sum of those for its parts "
                "(measured), and each replica adds the value for its own rows",
                "keep sums over examples, and divide in `result()`",
            )
            break
