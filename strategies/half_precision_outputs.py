"""Warns of models with outputs in half precision, because probabilities and losses lose digits.

bfloat16 has two to three decimal digits: its softmax cannot tell 0.998 from 0.999, and the loss
stops falling there. Keras recommends a last layer in float32.
"""

from __future__ import annotations

import warnings

import keras

HALF = ("float16", "bfloat16")


def outputs_in_half_precision(model: keras.Model) -> dict[str, str]:
    """Returns the outputs of `model` in half precision: names and dtypes.

    A Sequential or functional model knows its outputs once it is built. A subclassed one does not;
    it counts if each of its layers computes in half precision.

    Args:
        model: A model. Before it is built it has no outputs.

    Example:
        >>> inputs = keras.Input([2])
        >>> end = keras.layers.Dense(1, dtype="mixed_bfloat16", name="end")
        >>> outputs_in_half_precision(keras.Model(inputs, end(inputs)))
        {'end': 'bfloat16'}
    """
    outputs = getattr(model, "outputs", None)
    if outputs:
        is_sequential = isinstance(model, keras.Sequential)
        names = [model.layers[-1].name] if is_sequential else model.output_names
        pairs = zip(names, outputs, strict=True)
        return {name: output.dtype for name, output in pairs if output.dtype in HALF}
    dtypes = {layer.compute_dtype for layer in model.layers}
    if isinstance(model, keras.Sequential) or not dtypes or not dtypes.issubset(HALF):
        return {}
    return {model.name: model.compute_dtype}


def warn_of_half_precision(model: keras.Model) -> None:
    """Warns, with the cure, if outputs of a model are in half precision.

    Args:
        model: A model that is about to train.
    """
    found = ", ".join(
        f"{name} in {dtype}" for name, dtype in outputs_in_half_precision(model).items()
    )
    if found:
        warnings.warn(
            f"The outputs of model {model.name!r} are in half precision ({found}): probabilities "
            'and losses lose digits. Give the last layer dtype="float32", such as '
            'keras.layers.Dense(10, "softmax", dtype="float32").',
            stacklevel=3,
        )
