"""Tokens on a line: the outputs of `Embedding` layers are moved from one text's to another's.

A token has no values between two tokens, but its embedding has. So the model is called three
times: on both texts, noting what its `Embedding` layers return, and with values in between put in
their place. Masks are those of the text. What is not needed of the first two calls is not computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import all_layers


class Embedded:
    """The outputs of the `Embedding` layers that read tokens.

    Args:
        call: Calls the model on flat inputs.
        model: The model.
        rows: Its inputs, the rows' own.
        baseline: The inputs at the start of the line.
        names: Names of the inputs.
        tokens: Positions of the inputs that are tokens.

    Raises:
        ValueError: If an input of tokens reaches no `Embedding`, or not in a way of its own.
    """

    def __init__(
        self,
        call: Any,
        model: keras.Model,
        rows: Sequence[tf.Tensor],
        baseline: Sequence[tf.Tensor],
        names: Sequence[str],
        tokens: Sequence[int],
    ) -> None:
        self._layers = [
            each for each in all_layers(model) if isinstance(each, keras.layers.Embedding)
        ]
        ids: list[tuple[str, Any]] = []
        self.ends = self._noted(call, rows, ids)
        self.starts = self._noted(call, baseline, [])
        if len(self.starts) != len(self.ends):
            raise ValueError(
                "`model` must call its Embedding layers in one order. Received: calls that differ "
                "between two batches. Pass a model without such conditions."
            )
        self.inputs: list[int | None] = [
            self._input(layer, value, rows, names, tokens) for layer, value in ids
        ]
        for token in tokens:
            if token not in self.inputs:
                raise ValueError(
                    f"`inputs` must be numbers, or tokens for an Embedding layer. Received: input "
                    f"{names[token]!r} of {rows[token].dtype.name}, which reaches no Embedding. "
                    "Use `occlusion`, or pass it as floating-point numbers if the model takes them."
                )

    def places(self) -> list[int]:
        """Returns the calls that read tokens."""
        return [place for place, each in enumerate(self.inputs) if each is not None]

    @contextlib.contextmanager
    def put(self, values: Sequence[tf.Tensor]) -> Iterator[None]:
        """Lets the calls of `places()` return values within the block."""
        given = dict(zip(self.places(), values, strict=True))
        count = iter(range(len(self.inputs)))

        def returned(layer: Any, found: Any, ids: Any) -> Any:
            return given.get(next(count), found)

        with _calls(self._layers, returned):
            yield

    def _noted(self, call: Any, inputs: Sequence[tf.Tensor], ids: list[Any]) -> list[tf.Tensor]:
        found: list[tf.Tensor] = []

        def noted(layer: Any, embedded: Any, own: Any) -> Any:
            found.append(embedded)
            ids.append((layer.name, own))
            return embedded

        with _calls(self._layers, noted):
            call(inputs)
        return found

    def _input(
        self,
        layer: str,
        ids: tf.Tensor,
        rows: Sequence[tf.Tensor],
        names: Sequence[str],
        tokens: Sequence[int],
    ) -> int | None:
        """Returns which input an `Embedding` reads; None if it reads none, such as positions."""
        read = [token for token in tokens if _reads(ids, rows[token])]
        if not read:
            return None
        own = rows[read[0]]
        if len(read) > 1 or not own.shape.is_compatible_with(ids.shape):
            raise ValueError(
                f"`model` must have Embedding layers that read one input each, whole. Received: "
                f"{layer!r}, which reads {', '.join(repr(names[i]) for i in read)} in shape "
                f"{tuple(ids.shape)}. Use `occlusion`, which needs no gradients."
            )
        return read[0]


@contextlib.contextmanager
def _calls(layers: Sequence[Any], changed: Any) -> Iterator[None]:
    """Passes what layers return to `changed(layer, output, ids)`, whose value they return."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_changed_call(layer, changed))
        yield


@contextlib.contextmanager
def _changed_call(layer: Any, changed: Any) -> Iterator[None]:
    original = layer.call

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(inputs, *args, **kwargs)
        is_lookup = not (args or any(kwargs.values()))  # `reverse=True` computes logits
        return changed(layer, found, inputs) if is_lookup else found

    # Not by setattr: Keras looks for layers in what is set.
    vars(layer)["call"] = call
    try:
        yield
    finally:
        vars(layer).pop("call")


def _reads(value: Any, source: tf.Tensor) -> bool:
    """Tells whether a tensor of a graph is computed from another."""
    seen, todo = set(), [value]
    while todo:
        tensor = todo.pop()
        if tensor is source:
            return True
        if id(tensor) in seen or not isinstance(tensor, tf.Tensor):
            continue
        seen.add(id(tensor))
        todo.extend(tensor.op.inputs)
    return False
