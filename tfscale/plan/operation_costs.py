"""What an operation costs: floating-point operations, and roughly how long it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

_START, _BYTES_A_SECOND, _FLOPS_A_SECOND = 2e-6, 6e9, 40e9


def seconds_for(touched: int, flops: int = 0) -> float:
    """Returns how long an operation runs on a core, roughly.

    Only ratios matter, and only for which operations overlap.

    Args:
        touched: Bytes that it reads and writes.
        flops: Floating-point operations.
    """
    return _START + touched / _BYTES_A_SECOND + flops / _FLOPS_A_SECOND


def flops_of(op: Any) -> int:
    """Returns two for each multiplication and addition of a matrix product or convolution."""
    shapes = [tensor.shape for tensor in op.inputs]
    if op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        first = "transpose_a" if op.type == "MatMul" else "adj_x"
        return _product(op.outputs[0].shape, [shapes[0][-2 if op.get_attr(first) else -1]])
    if op.type == "Einsum":
        terms = op.get_attr("equation").decode().partition("->")[0].split(",")
        if any("." in term for term in terms):
            return 0
        sizes = {
            label: size
            for term, shape in zip(terms, shapes, strict=True)
            for label, size in zip(term, shape, strict=True)
        }
        return _product([], sizes.values()) if len(terms) == 2 else 0
    if op.type in ("Conv2D", "Conv3D", "Conv"):
        return _product(op.outputs[0].shape, shapes[1][:-1])
    if op.type in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        return _product(shapes[2], shapes[1][:-1])
    if op.type in ("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"):
        return _product(shapes[2], op.outputs[0].shape[:-1])
    return 0


def _product(shape: Sequence[int | None], more: Iterable[int | None]) -> int:
    sizes = [*shape, *more]
    return 0 if any(size is None for size in sizes) else 2 * prod(int(size or 0) for size in sizes)
