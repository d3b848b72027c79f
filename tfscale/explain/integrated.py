"""Integrated gradients (Sundararajan, Taly and Yan, arXiv 1703.01365)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import all_layers, number, whole_number
from tfscale.explain.attributions import Attributions
from tfscale.explain.embedded import Embedded
from tfscale.explain.on_replicas import OnReplicas, check_model, check_outputs
from tfscale.explain.rows import Rows, rows_of, values_for
from tfscale.explain.segments import Evaluated, integrate, nodes
from tfscale.explain.targets import Output, elements_of

_BATCHES = 16
"""Batches of one call of `predict`, which takes some milliseconds by itself."""


def integrated_gradients(
    model: keras.Model,
    inputs: Any,
    *,
    target: Any = None,
    output: str | int | None = None,
    baseline: Any = 0,
    steps: int = 4,
    most_steps: int = 3000,
    tolerance: float = 1e-3,
    batch_size: int = 256,
    say: Callable[[str], None] | None = None,
) -> Attributions:
    """Divides f(input) - f(baseline) among the values of the input.

    An attribution is (input - baseline) times the mean of the gradient on the line between the
    two. The attributions of a row add up to the difference of the outputs (completeness); how far
    they do is known, so the line is divided where they do not: at the kinks of ReLU and
    max-pooling. Inputs of integers that `Embedding` layers read are moved at the output of these
    layers, and a token's attribution is the sum over its embedding.

    Rows are computed on all replicas and workers of the model's strategy, as by `model.predict`:
    on several workers each calls it with the same rows and gets all attributions. The model
    predicts (dropout is off), and is left as it is.

    Args:
        model: A built model, of any class of Keras.
        inputs: What `model.predict` takes: an array with rows along the first axis, or a list or
            dictionary of arrays. Finite.
        target: Index of the number of the output to explain, such as a class: an int, a tuple for
            an output of several axes, or a list with one for each row. None means the largest
            output of each row.
        output: Name or index of an output, for a model of several.
        baseline: Where nothing is to be seen: a number for all inputs, or values of one row or of
            all rows in the structure of `inputs`. Tokens are whole numbers.
        steps: Gradients for a segment of the line, at first the whole line. At least 2.
        most_steps: Most gradients for a row. At least twice `steps`.
        tolerance: Largest gap of a row, as a part of the largest absolute output on its line. 1e-6
            takes a model in float64, and many gradients if it has many kinks. A row that has not
            reached it after `most_steps` is in `incomplete` of the result.
        batch_size: Gradients at a time, on all replicas together; bounds the memory. At least
            `steps` + 2.
        say: Takes lines of progress.

    Returns:
        Attributions in the structure and shapes of `inputs`.

    Raises:
        ValueError: If an argument is wrong, or an output is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[2.0], [-1.0]]), np.array([5.0])])
        >>> found = integrated_gradients(model, np.array([[3.0, 4.0]]))
        >>> found.attributions.round(3).tolist(), found.incomplete
        ([[6.0, -4.0]], [])
    """
    check_model(model)
    steps = whole_number("steps", steps, at_least=2)
    most_steps = whole_number("most_steps", most_steps, at_least=2 * steps)
    batch_size = whole_number("batch_size", batch_size, at_least=steps + 2)
    tolerance = number(
        "tolerance", tolerance, "a number above 0", lambda value: value > 0, cure="Pass 1e-3."
    )
    rows = rows_of(model, inputs)
    baselines = values_for("baseline", baseline, rows)
    chosen = Output(model, output)
    elements = elements_of(chosen, rows, target, batch_size)
    at_once = batch_size // (steps + 2)
    computed = OnReplicas(model, _step(chosen, rows, steps))

    def evaluate(which: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Evaluated:
        found = computed(
            {
                **{f"row/{i}": each[which] for i, each in enumerate(rows.arrays)},
                **{f"baseline/{i}": each[which] for i, each in enumerate(baselines)},
                "element": elements[which],
                "start": starts,
                "width": ends - starts,
            },
            at_once,
        )
        check_outputs("from `baseline` to `inputs`", which, found["first"], found["last"])
        return Evaluated(
            [found[f"integral/{i}"] for i in range(len(rows.arrays))],
            *(found[name].astype(np.float64) for name in ("first", "last")),
            *(found[name].astype(np.float64) for name in ("first_slope", "last_slope")),
        )

    found = integrate(
        evaluate,
        len(rows),
        [each.shape[1:] for each in rows.arrays],
        points=steps,
        most_points=most_steps,
        tolerance=tolerance,
        precision=_precision(model),
        at_once=_BATCHES * at_once,
        say=say or (lambda line: None),
    )
    return Attributions(
        method="integrated gradients",
        inputs=rows.packed(rows.arrays),
        names=rows.names,
        attributions=rows.packed(found.values),
        elements=elements,
        outputs=found.ends,
        baseline_outputs=found.starts,
        scales=found.scales,
        tolerance=tolerance,
        steps=found.points,
    )


def _step(output: Output, rows: Rows, points: int) -> Any:
    """Returns the step of `OnReplicas`: segments of lines, of which each is several rows."""
    places, weights = nodes(points)
    everywhere = np.concatenate([[0.0], places, [1.0]])
    count = len(everywhere)
    tokens = [i for i, each in enumerate(rows.arrays) if each.dtype.kind in "iu"]

    def call(flat: Sequence[tf.Tensor]) -> Any:
        return rows.packed(flat)

    def step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        own = [_repeated(batch[f"row/{i}"], count) for i in range(len(rows.arrays))]
        start = [_repeated(batch[f"baseline/{i}"], count) for i in range(len(rows.arrays))]
        elements = _repeated(batch["element"], count)
        width = batch["width"]
        along = tf.reshape(batch["start"][:, None] + width[:, None] * everywhere, [-1])
        moved: dict[str, tuple[tf.Tensor, tf.Tensor]] = {
            f"integral/{i}": (start[i], own[i]) for i in range(len(own)) if i not in tokens
        }
        embedded, of_inputs = None, [int(name.split("/")[1]) for name in moved]
        ends = list(moved.values())
        if tokens:
            embedded = Embedded(
                lambda flat: output.flat(call(flat)), output.model, own, start, rows.names, tokens
            )
            for place in embedded.places():
                ends.append((embedded.starts[place], embedded.ends[place]))
                of_inputs.append(embedded.inputs[place] or 0)
        values = [_between(low, high, along) for low, high in ends]
        with tf.GradientTape() as tape:
            tape.watch(values)
            flat = list(own)
            for value, i in zip(values, of_inputs, strict=True):
                if i not in tokens:
                    flat[i] = value
            if embedded is None:
                found = output.chosen(call(flat), elements)
            else:
                given = [v for v, i in zip(values, of_inputs, strict=True) if i in tokens]
                with embedded.put(given):
                    found = output.chosen(call(flat), elements)
        gradients = tape.gradient(found, values, unconnected_gradients="zero")
        slopes: Any = 0.0
        integrals: dict[int, Any] = {}
        for gradient, (low, high), i in zip(gradients, ends, of_inputs, strict=True):
            product = tf.convert_to_tensor(gradient) * (high - low)
            slopes += _by_segment(_row_sums(product), count)
            if i in tokens:
                product = tf.reduce_sum(product, axis=-1)
            by_node = _by_segment(product, count)[:, 1:-1]
            shape = [1, points] + [1] * (by_node.shape.rank - 2)
            mean = tf.reduce_sum(by_node * tf.reshape(tf.cast(weights, by_node.dtype), shape), 1)
            extent = tf.reshape(tf.cast(width, mean.dtype), [-1] + [1] * (mean.shape.rank - 1))
            integrals[i] = integrals.get(i, 0.0) + mean * extent
        outputs = _by_segment(found, count)
        return {
            **{f"integral/{i}": integrals[i] for i in range(len(own))},
            "first": outputs[:, 0],
            "last": outputs[:, -1],
            "first_slope": slopes[:, 1],
            "last_slope": slopes[:, -2],
        }

    return step


def _between(low: tf.Tensor, high: tf.Tensor, along: tf.Tensor) -> tf.Tensor:
    share = tf.reshape(tf.cast(along, low.dtype), [-1] + [1] * (low.shape.rank - 1))
    return low + share * (high - low)


def _repeated(values: tf.Tensor, count: int) -> tf.Tensor:
    return tf.repeat(values, count, axis=0)


def _by_segment(values: tf.Tensor, count: int) -> tf.Tensor:
    return tf.reshape(values, tf.concat([[-1, count], tf.shape(values)[1:]], axis=0))


def _row_sums(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def _precision(model: keras.Model) -> float:
    """Returns the machine precision of the layer that computes least precisely."""
    return max(_EPSILON.get(layer.compute_dtype, 0.0) for layer in all_layers(model))


_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
