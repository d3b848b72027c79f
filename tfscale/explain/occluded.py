"""Occlusion: what an output loses when a part of the input is covered (arXiv 1311.2901)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import whole_number
from tfscale.explain.attributions import Attributions
from tfscale.explain.on_replicas import OnReplicas, check_model, check_outputs
from tfscale.explain.rows import Rows, rows_of, values_for
from tfscale.explain.targets import Output, elements_of

Place = tuple[int, tuple[Any, ...]]
"""An input, and a window in a row of it."""


def occlusion(
    model: keras.Model,
    inputs: Any,
    *,
    window: Any = 1,
    stride: Any = None,
    fill: Any = 0,
    target: Any = None,
    output: str | int | None = None,
    batch_size: int = 256,
    say: Callable[[str], None] | None = None,
) -> Attributions:
    """Covers one window of the input after another, and notes what the output loses.

    An attribution is f(input) - f(input with the window covered), the mean over the windows that
    cover a value. It needs no gradients, so it also explains integers that no `Embedding` reads.
    The attributions need not add up to anything.

    Rows are computed on all replicas and workers, as by `integrated_gradients`.

    Args:
        model: A built model, of any class of Keras.
        inputs: What `model.predict` takes: an array with rows along the first axis, or a list or
            dictionary of arrays. Finite.
        window: Size of a window: an int, or a tuple of sizes along the first axes of a row; other
            axes are covered whole, such as the channels of an image. An int holds for each axis
            but the last of images (rows of three axes), which are their channels. For several
            inputs, one for all or a dictionary by the names of the inputs.
        stride: Distance of windows, at most their size, in the form of `window`. None means that
            windows do not overlap. The last window of an axis is cut at its end.
        fill: What covers: a number for all inputs, or values of one row or of all rows in the
            structure of `inputs`. Tokens are whole numbers.
        target: Index of the number of the output to explain, such as a class: an int, a tuple for
            an output of several axes, or a list with one for each row. None means the largest
            output of each row.
        output: Name or index of an output, for a model of several.
        batch_size: Changed rows at a time, on all replicas together; bounds the memory.
        say: Takes lines of progress.

    Returns:
        Attributions in the structure and shapes of `inputs`.

    Raises:
        ValueError: If an argument is wrong, or an output is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[2.0], [-1.0]]), np.array([5.0])])
        >>> occlusion(model, np.array([[3.0, 4.0]])).attributions.round(3).tolist()
        [[6.0, -4.0]]
    """
    check_model(model)
    batch_size = whole_number("batch_size", batch_size)
    rows = rows_of(model, inputs)
    fills = values_for("fill", fill, rows)
    places = list(_places(rows, window, stride))
    chosen = Output(model, output)
    elements = elements_of(chosen, rows, target, batch_size)

    def step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        flat = [batch[f"row/{i}"] for i in range(len(rows.arrays))]
        return {"output": chosen.chosen(rows.packed(flat), batch["element"])}

    computed = OnReplicas(model, step)

    def outputs(arrays: list[np.ndarray], which: np.ndarray) -> np.ndarray:
        named = {f"row/{i}": each for i, each in enumerate(arrays)}
        found = computed({**named, "element": elements[which]}, batch_size)["output"]
        check_outputs("of `inputs`, also with a window covered", which, found)
        return found.astype(np.float64)

    whole = outputs(list(rows.arrays), np.arange(len(rows)))
    sums = [np.zeros(each.shape) for each in rows.arrays]
    counts = [np.zeros(each.shape[1:]) for each in rows.arrays]
    for i, where in places:
        counts[i][where] += 1
    pairs = ((row, place) for place in places for row in range(len(rows)))
    done, total = 0, len(rows) * len(places)
    while pair := list(itertools.islice(pairs, batch_size)):
        which = np.array([row for row, _ in pair])
        changed = [each[which] for each in rows.arrays]  # copies
        for k, (row, (i, where)) in enumerate(pair):
            changed[i][(k, *where)] = fills[i][(row, *where)]
        for (row, (i, where)), value in zip(pair, outputs(changed, which), strict=True):
            sums[i][(row, *where)] += whole[row] - value
        done += len(pair)
        if say is not None and done < total:
            say(f"{done:,} of {total:,} covered rows")
    return Attributions(
        method="occlusion",
        inputs=rows.packed(rows.arrays),
        names=rows.names,
        attributions=rows.packed([s / c for s, c in zip(sums, counts, strict=True)]),
        elements=elements,
        outputs=whole,
        steps=np.full(len(rows), len(places)),
    )


def _places(rows: Rows, window: Any, stride: Any) -> Iterator[Place]:
    """Yields all windows."""
    for i, (name, array) in enumerate(zip(rows.names, rows.arrays, strict=True)):
        shape = array.shape[1:]
        sizes = _sizes("window", _of_input("window", window, name, rows), shape)
        steps = sizes
        if stride is not None:
            steps = _sizes("stride", _of_input("stride", stride, name, rows), shape)
            if any(step > size for step, size in zip(steps, sizes, strict=True)):
                raise ValueError(
                    f"`stride` must be at most `window`, or values between windows are not "
                    f"explained. Received for input {name!r}: stride={steps}, window={sizes}. Pass "
                    "a smaller one, or leave it out."
                )
        by_axis = [
            [slice(b, b + size) for b in range(0, max(1, extent - size + step), step)]
            for size, step, extent in zip(sizes, steps, shape, strict=True)
        ]
        for where in itertools.product(*by_axis):
            yield i, where


def _of_input(argument: str, value: Any, name: str, rows: Rows) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) != set(rows.names):
        raise ValueError(
            f"`{argument}` must have a size for each input: {', '.join(rows.names)}. Received: "
            f"{', '.join(map(str, value))}. Pass one for each, or one for all."
        )
    return value[name]


def _sizes(argument: str, value: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a size for each axis of a row, at most its extent."""
    if isinstance(value, (tuple, list)):
        sizes = [whole_number(argument, each) for each in value]
    else:
        axes = 2 if len(shape) == 3 else len(shape)
        sizes = [whole_number(argument, value)] * axes
    if len(sizes) > len(shape):
        raise ValueError(
            f"`{argument}` must have at most {len(shape)} sizes, one for each axis of a row of "
            f"shape {shape}. Received: {argument}={value!r}. Leave out those that are too many."
        )
    sizes += shape[len(sizes) :]
    return tuple(min(size, extent) for size, extent in zip(sizes, shape, strict=True))
