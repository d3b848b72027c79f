"""Recomputation: `keras.remat` and `keras.RematScope` keep a call's inputs, not what is inside it.

The backward pass calls the function a second time to get the activations again. On TensorFlow,
Keras leaves that to `tf.recompute_grad`, which calls the function again as if it were new: dropout
draws another mask, BatchNormalization updates its statistics twice, the second call has neither the
`training` flag nor the dtype of the first, gradients of `add_loss` are lost, and keyword arguments
raise. Here the second pass repeats the first; see `context.recomputed_pass`.

The executor runs an operation as soon as its inputs are there, so it would recompute everything at
the beginning of the backward pass and free nothing. So the second pass waits for the gradient of
the function's result: by control edges, or for XLA, which has none, by a zero that
depends on the gradient.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

from strategies.keras_support.context.lineage import called_bodies, handle_id
from strategies.keras_support.context.recomputed_pass import (
    FirstPass,
    SecondPass,
    current_pass,
    taking_pass,
)
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.gradients.xla_order import waiting_for
from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.patching.ownership import is_owned

_UNREPEATABLE = (
    *("Random", "Multinomial", "ParameterizedTruncated", "TruncatedNormal", "StatefulStandard"),
    *("StatefulUniform", "StatefulTruncated", "StatefulRandom", "RngReadAndSkip"),
)
_REPEATABLE = ("RandomShuffleQueue",)
_ASSIGNMENTS = ("AssignVariable", "AssignAddVariable", "AssignSubVariable", "ResourceScatter")


def recomputed(remat: Any) -> Any:
    """Replaces `keras.remat`: a second pass that repeats the first."""

    @functools.wraps(remat)
    def recomputing(f: Callable[..., Any]) -> Any:
        stock = remat(f)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not is_owned(tf.distribute.get_strategy()):
                return stock(*args, **kwargs)
            is_needed = not tf.executing_eagerly() and record.could_possibly_record()
            if not is_needed or isinstance(current_pass(), FirstPass):
                return f(*args, **kwargs)
            _refuse_parameter_servers()
            return _Call(f, args, kwargs).result()

        call.__wrapped__ = f  # type: ignore[attr-defined]
        return call

    return recomputing


class _Call:
    """One call of a recomputed function, in the graph of a step."""

    def __init__(self, f: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._f = f
        self._structure = (args, kwargs)
        self._flat = tf.nest.flatten(self._structure, expand_composites=True)
        self._places = [i for i, each in enumerate(self._flat) if _is_given(each)]
        self._given = [self._flat[i] for i in self._places]
        # Before the first pass: Keras's attention takes the masks off the tensors that it is given.
        self._masks = [get_keras_mask(each) for each in self._given]
        outer = current_pass()
        self._first = FirstPass(outer if isinstance(outer, SecondPass) else None)
        self._calling = _Calling()
        step = current_step()
        self._layers = step.layers if step is not None else _layers_of(f)
        if step is not None:
            step.passes.append(self._first)

    def result(self) -> Any:
        """Calls the function, and returns its result with the gradient that recomputes."""
        structure: list[Any] = []

        @tf.custom_gradient
        def forward(*_: tf.Tensor) -> Any:
            before = [list(layer._losses) for layer in self._layers]
            made_before = len(tf.compat.v1.get_default_graph().get_operations())
            with taking_pass(self._first):
                args, kwargs = self._structure
                result = self._f(*args, **kwargs)
            losses = _added(self._layers, before)
            structure[:] = [(result, losses)]
            outputs = _tensors(structure[0])
            self._check(outputs, tf.compat.v1.get_default_graph().get_operations()[made_before:])
            return outputs, self._gradient

        outputs = list(forward(*self._given))
        result, losses = _with_tensors(structure[0], outputs)
        for layer, own in zip(self._layers, losses, strict=True):
            if own:
                layer._losses[len(layer._losses) - len(own) :] = own
        return result

    def _gradient(self, *upstream: Any, variables: Any = None) -> Any:
        weights = list(variables or ())
        gradients = [None if each is None else tf.convert_to_tensor(each) for each in upstream]
        waited = [each for each in gradients if each is not None]
        is_xla = control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        after = waiting_for(waited[:1]) if is_xla and waited else tf.identity
        graph = tf.compat.v1.get_default_graph()
        made_before = len(graph.get_operations())
        with tf.GradientTape() as tape:
            with tf.control_dependencies([] if is_xla else waited):
                inputs = [after(each) for each in self._given]
                for each, mask in zip(inputs, self._masks, strict=True):
                    _set_mask(each, mask)
                differentiable = [each for each in inputs if each.dtype.is_floating]
                tape.watch([*differentiable, *weights])
                outputs = self._repeated(inputs, after)
            used = [
                (output, gradient)
                for output, gradient in zip(outputs, gradients, strict=True)
                if gradient is not None and (output.dtype.is_floating or output.dtype.is_complex)
            ]
        found = tape.gradient(
            [output for output, _ in used],
            [*differentiable, *weights],
            output_gradients=[gradient for _, gradient in used],
        )
        made = graph.get_operations()[made_before:]
        with tf.control_dependencies([each for each in made if each.type == "ReadVariableOp"]):
            of_weights = [_passed_on(each) for each in found[len(differentiable) :]]
        with tf.control_dependencies([each for each in of_weights if each is not None]):
            of_inputs = iter([_passed_on(each) for each in found[: len(differentiable)]])
        own = [next(of_inputs) if each.dtype.is_floating else None for each in inputs]
        return (own, of_weights) if weights else own

    def _repeated(
        self, inputs: Sequence[tf.Tensor], after: Callable[[tf.Tensor], tf.Tensor]
    ) -> list[tf.Tensor]:
        """Calls the function again, and returns the tensors of its result and losses."""
        flat = list(self._flat)
        for place, each in zip(self._places, inputs, strict=True):
            flat[place] = each
        args, kwargs = tf.nest.pack_sequence_as(self._structure, flat, expand_composites=True)
        before = [list(layer._losses) for layer in self._layers]
        try:
            with taking_pass(SecondPass(self._first, after)), self._calling:
                result = self._f(*args, **kwargs)
            return _tensors((result, _added(self._layers, before)))
        finally:
            for layer, own in zip(self._layers, before, strict=True):
                layer._losses[:] = own

    def _check(self, outputs: Sequence[tf.Tensor], made: Sequence[Any]) -> None:
        """Refuses what a second pass could not repeat, and tensors whose gradients would be lost.

        Args:
            outputs: Of the first pass.
            made: The operations made since it began. If a replica waits for others in between,
                theirs too, so what the outputs depend on is found from these.
        """
        names = {operation.name for operation in made}
        known = {id(each) for each in self._given}
        waiting = list(outputs)
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in known:
                continue
            known.add(id(tensor))
            if tensor.op.name in names:
                _refuse_unrepeatable(tensor.op)
                waiting += tensor.op.inputs
            elif tensor.dtype.is_floating and record.should_record_backprop([tensor]):
                raise ValueError(
                    "A recomputed function must get tensors as arguments. Received: one that "
                    f"uses {tensor.name!r} from outside, whose gradient would be lost. Pass it "
                    "as an argument."
                )
        if tf.distribute.get_strategy().num_replicas_in_sync == 1 and self._first.outer is None:
            for operation in made:  # of several replicas, see `checked_assignment`
                is_assignment = operation.type.startswith(_ASSIGNMENTS)
                if is_assignment and handle_id(operation.inputs[0]) not in self._first.assigned:
                    self._first.refuse_native(operation.name)


class _Calling:
    """What Keras knows of the call of a layer, outside of its arguments; restored while entered.

    The `training` flag, and the dtype to which float variables are cast.
    """

    _NAMES = ("current_call_ctx", "autocast_scope")

    def __init__(self) -> None:
        known = [global_state.get_global_attribute(name) for name in self._NAMES]
        self._values = [copy.copy(known[0]), known[1]]  # a call may change its flags
        self._outer: list[Any] = []

    def __enter__(self) -> None:
        self._outer = [global_state.get_global_attribute(name) for name in self._NAMES]
        self._set([copy.copy(self._values[0]), self._values[1]])

    def __exit__(self, *_: object) -> None:
        self._set(self._outer)

    def _set(self, values: list[Any]) -> None:
        for name, value in zip(self._NAMES, values, strict=True):
            global_state.set_global_attribute(name, value)


def _refuse_parameter_servers() -> None:
    step = current_step()
    if step is not None and step.pull is not None:
        raise ValueError(
            "Recomputed layers must not be trained under parameter_server_strategy, because the "
            "second pass would read weights that other workers have updated since the first. "
            "Received: such a layer. Leave keras.remat, RematScope and tfscale.recompute out, or "
            "take another strategy."
        )


def _refuse_unrepeatable(operation: Any) -> None:
    for kind in (operation.type, *_called_kinds(operation)):
        if kind.startswith(_UNREPEATABLE) and not kind.startswith(_REPEATABLE):
            raise ValueError(
                "A recomputed function must draw random numbers that can be drawn again. "
                f"Received: {operation.name!r}, a {kind}. Draw with keras.random and a "
                "keras.random.SeedGenerator, or with tf.random.stateless_*."
            )


def _called_kinds(operation: Any) -> list[str]:
    """Returns the types of the operations in the conditions, loops and functions of `operation`."""
    called = called_bodies(operation)
    if not called:
        return []
    library = operation.graph.as_graph_def().library.function
    functions = {each.signature.name: each for each in library}
    return [node.op for name in called if name in functions for node in functions[name].node_def]


def _passed_on(gradient: Any) -> Any:
    """Returns a gradient that waits for the current control dependencies.

    * That of an input waits for those of the weights: the function before would recompute while
      what this one recomputed is still needed.
    * That of a weight waits until the second pass has read all weights. TensorFlow's functions let
      an update wait for earlier reads by a control edge. Grappler drops it where another path
      exists, also one through the IdentityN of all gradients that `all_reduce` makes, and then
      takes that IdentityN apart (2.21): the second pass would read updated weights.
    """
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.identity(gradient.values), gradient.indices, gradient.dense_shape
        )
    return tf.identity(gradient)


def _is_given(value: Any) -> bool:
    return tf.is_symbolic_tensor(value) and not isinstance(value, (keras.Variable, tf.Variable))


def _layers_of(f: Any) -> tuple[Any, ...]:
    owner = getattr(f, "__self__", f)
    return tuple(all_layers(owner)) if isinstance(owner, keras.Layer) else ()


def _added(layers: Sequence[Any], before: Sequence[list[Any]]) -> list[list[Any]]:
    """Returns the losses that layers have added since; a call outside of a model clears earlier."""
    return [
        [loss for loss in layer._losses if not any(loss is each for each in own)]
        for layer, own in zip(layers, before, strict=True)
    ]


def _tensors(structure: Any) -> list[tf.Tensor]:
    return [each for each in tf.nest.flatten(structure, expand_composites=True) if _is_given(each)]


def _with_tensors(structure: Any, tensors: Sequence[tf.Tensor]) -> Any:
    """Returns `structure` with other tensors, which get the masks of those that they replace."""
    flat = tf.nest.flatten(structure, expand_composites=True)
    left = iter(tensors)
    for place, each in enumerate(flat):
        if _is_given(each):
            flat[place] = next(left)
            _set_mask(flat[place], get_keras_mask(each))
    return tf.nest.pack_sequence_as(structure, flat, expand_composites=True)


def _set_mask(tensor: Any, mask: Any) -> None:
    if mask is not None:
        set_keras_mask(tensor, mask)
