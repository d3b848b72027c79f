"""Which weights of a model are pruned, and how far."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from strategies.extension import all_layers, optimized_variables, own_weights
from tfscale.shrink.pruning.mask_rule import PrunedWeight
from tfscale.shrink.pruning.patterns import Axes, Pattern
from tfscale.shrink.pruning.schedules import checked_sparsity

_DENSE = (keras.layers.Dense,)
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


def _last_two(layer: Any, rank: int) -> Axes:
    return Axes(tuple(range(rank - 2)), (rank - 2,), (rank - 1,))


def _transposed(layer: Any, rank: int) -> Axes:
    return Axes(tuple(range(rank - 2)), (rank - 1,), (rank - 2,))


def _of_equation(layer: Any, rank: int) -> Axes:
    """The axes of an EinsumDense: "abc,cde->abde" sums over c, of the kernel cde."""
    operands, output = layer.equation.replace(" ", "").split("->")
    value, kernel = operands.split(",")
    names = dict(enumerate(kernel))
    inputs = tuple(axis for axis, name in names.items() if name not in output)
    alike = tuple(axis for axis, name in names.items() if name in output and name in value)
    return Axes(alike, inputs, tuple(axis for axis in names if axis not in (*inputs, *alike)))


_PRUNED: tuple[tuple[tuple[Any, ...], tuple[str, ...], Callable[[Any, int], Axes]], ...] = (
    (_DENSE, ("kernel",), _last_two),
    (_CONVOLUTIONS, ("kernel",), _last_two),
    (_SEPARABLE, ("pointwise_kernel",), _last_two),
    (_TRANSPOSED, ("kernel",), _transposed),
    ((keras.layers.EinsumDense,), ("kernel",), _of_equation),
    (_CELLS, ("kernel", "recurrent_kernel"), _last_two),
)
"""The weights that are pruned without being named: layer classes, names, axes."""


def chosen_weights(
    model: Any,
    pattern: Pattern,
    final: float,
    targets: Mapping[str, float],
    keep: Sequence[str],
    *,
    is_global: bool,
) -> list[PrunedWeight]:
    """Returns the weights to prune, in the order of the model.

    Args:
        model: A compiled model, its optimizer built.
        pattern: What is pruned together.
        final: The sparsity at the end of weights that no target matches.
        targets: Other sparsities, by regular expressions. They may match weights that are not
            pruned otherwise.
        keep: Regular expressions of what is not pruned.
        is_global: Whether all weights are compared with each other.

    Raises:
        ValueError: If an expression matches nothing, a weight does not fit the pattern, or nothing
            would be pruned.
    """
    updated = {id(v) for v in optimized_variables(model.optimizer) if len(v.shape) > 1}
    found: dict[int, PrunedWeight] = {}
    matched: set[str] = set()
    for layer in all_layers(model):
        for variable in own_weights(layer):
            if id(variable) not in updated or id(variable) in found:
                continue
            target, is_left = _match(layer, variable, targets), _match(layer, variable, keep)
            matched.update(each for each in (target, is_left) if each is not None)
            if target is not None and is_left is not None:
                raise ValueError(
                    "`keep` must not match what `targets` matches. Received: "
                    f"keep={is_left!r} and targets={target!r}, for {variable.path!r}. Leave one "
                    "of them out."
                )
            axes = _axes(layer, variable, is_named=target is not None)
            if axes is not None and is_left is None:
                own_final = final if target is None else targets[target]
                found[id(variable)] = PrunedWeight(variable, axes, own_final)
    for name, expressions in (("targets", targets), ("keep", keep)):
        for expression in expressions:
            if expression not in matched:
                raise _unmatched(name, expression, model, updated)
    weights = list(found.values())
    if not weights:
        raise ValueError(
            "`model` must have a trainable kernel to prune, of Dense, EinsumDense, a convolution "
            f"or a recurrent layer, that `keep` leaves. Received: {model.name!r}, which has none. "
            "Name other weights in `targets`."
        )
    _refuse_misfits(weights, pattern, is_global=is_global)
    return weights


def prunable_kernels(model: Any) -> list[tuple[Any, str]]:
    """Returns the weights that are pruned without being named: layers and names, each once."""
    found = {
        id(variable): (layer, variable.name)
        for layer in all_layers(model)
        for variable in own_weights(layer)
        if _axes(layer, variable, is_named=False) is not None
    }
    return list(found.values())


def _axes(layer: Any, variable: Any, *, is_named: bool) -> Axes | None:
    """Returns the axes of a weight that is pruned, or None for one that is not."""
    rank = len(variable.shape)
    for kinds, names, axes in _PRUNED:
        if isinstance(layer, kinds) and variable.name in names:
            return axes(layer, rank)
    return _last_two(layer, rank) if is_named else None


def _match(layer: Any, variable: Any, expressions: Sequence[str] | Mapping[str, float]) -> Any:
    """Returns the first expression that matches a weight's path, or its layer's path or name."""
    names = (variable.path, layer.path or layer.name, layer.name)
    for expression in expressions:
        if any(re.fullmatch(expression, name) for name in names):
            return expression
    return None


def _unmatched(name: str, expression: str, model: Any, updated: set[int]) -> ValueError:
    paths = [v.path for v in model.trainable_variables if id(v) in updated][:20]
    return ValueError(
        f"`{name}` must match weights or layers of the model. Received: {expression!r}, which "
        f"matches none. Its weights with two axes or more are: {', '.join(paths)}."
    )


def _refuse_misfits(weights: Sequence[PrunedWeight], pattern: Pattern, *, is_global: bool) -> None:
    misfits = [weight for weight in weights if not pattern.fits(weight.sizes)]
    if misfits:
        sizes = "; ".join(f"{w.path} has {w.sizes[1]} x {w.sizes[2]}" for w in misfits[:10])
        raise ValueError(
            "`pattern` must cover each weight: its inputs x outputs must be multiples of "
            f"{pattern.inputs} x {pattern.outputs}. Received: pattern={pattern.name!r}; {sizes}. "
            f"Leave them alone with {_keep(misfits)}."
        )
    if is_global:
        units = sum(pattern.units(w.sizes) for w in weights)
        spared = list(weights) if math.floor(units * weights[0].final) < 1 else []
    else:
        spared = [w for w in weights if math.floor(pattern.units(w.sizes) * w.final) < 1]
    if spared:
        units = pattern.units(spared[0].sizes)
        raise ValueError(
            "The final sparsity must prune at least one weight or block of each layer. Received: "
            f"{spared[0].final:g} of {units} in {spared[0].path!r}. Prune more, or leave it alone "
            f"with {_keep(spared)}."
        )


def _keep(weights: Sequence[PrunedWeight]) -> str:
    return f"keep={[re.escape(weight.path) for weight in weights[:10]]!r}"


def checked_targets(targets: Any, pattern: Pattern) -> dict[str, float]:
    """Returns sparsities by regular expression.

    Raises:
        ValueError: If `targets` is something else, or a sparsity does not fit the pattern.
    """
    if targets is None:
        return {}
    if not isinstance(targets, Mapping):
        raise ValueError(
            "`targets` must map regular expressions to sparsities, or be None. Received: "
            f"targets={targets!r}. Pass a dict, such as {{'.*/dense': 0.9}}."
        )
    found = {}
    for expression, value in targets.items():
        found[checked_expression("targets", expression)] = checked_sparsity(
            f"targets[{expression!r}]", value
        )
        refuse_other_sparsity(f"targets[{expression!r}]", value, pattern)
    return found


def checked_expression(name: str, expression: Any) -> str:
    """Returns a regular expression of paths.

    Raises:
        ValueError: If it is none.
    """
    try:
        re.compile(expression if isinstance(expression, str) and expression else "(")
    except re.error as error:
        raise ValueError(
            f"`{name}` must contain regular expressions of paths. Received: {expression!r} "
            f"({error}). re.escape(path) matches a path literally."
        ) from error
    return str(expression)


def refuse_other_sparsity(name: str, value: float, pattern: Pattern) -> None:
    """Checks that a final sparsity is that of the pattern, if it has one.

    Raises:
        ValueError: If it is another.
    """
    only = pattern.sparsity
    if only is not None and not math.isclose(value, only, abs_tol=1e-9):
        raise ValueError(
            f"`{name}` must be {only:g} with pattern={pattern.name!r}, which has one sparsity. "
            f"Received: {name}={value!r}. Pass {only!r}."
        )
