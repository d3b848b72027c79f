"""Floating-point operations of matrix products and convolutions, from the shapes in a graph.

A product of an [n, k] and a [k, m] matrix is n k m multiplications and as many additions: 2 n k m.
A convolution counts each element of its output with the whole filter, also where the filter covers
padding. The same holds for their gradients, which are products of the same sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

_PRODUCTS = ("MatMul", "_FusedMatMul", "SparseMatMul")
_BATCH_PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
_CONVOLUTIONS = ("Conv", "Conv2D", "Conv3D", "_FusedConv2D")
_DEPTHWISE = "DepthwiseConv2dNative"
_BACK_TO_INPUT = ("Conv2DBackpropInput", "Conv3DBackpropInput", "Conv3DBackpropInputV2")
_BACK_TO_FILTER = ("Conv2DBackpropFilter", "Conv3DBackpropFilter", "Conv3DBackpropFilterV2")
_OPAQUE = """
Betainc BlockLSTM BlockLSTMGrad BlockLSTMGradV2 BlockLSTMV2 Cholesky CholeskyGrad CudnnRNN
CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNV2 CudnnRNNV3 CSRSparseMatrixMatMul
EagerPyFunc Eig FFT FFT2D FFT3D For GRUBlockCell GRUBlockCellGrad IFFT IFFT2D IFFT3D IRFFT IRFFT2D
IRFFT3D LSTMBlockCell LSTMBlockCellGrad Lu MapDefun MatrixDeterminant MatrixExponential
MatrixInverse MatrixLogarithm MatrixSolve MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve
PyFunc PyFuncStateless Qr QuantizedConv2D QuantizedMatMul RFFT RFFT2D RFFT3D RemoteCall
SelfAdjointEigV2 SparseMatrixMatMul SparseMatrixSparseMatMul SparseTensorDenseMatMul Svd
TridiagonalMatMul TridiagonalSolve XlaCallModule XlaConv XlaConvV2 XlaDot XlaDotV2 XlaLaunch
XlaWhile
"""
OPAQUE = frozenset(_OPAQUE.split())
"""Types of operations that multiply matrices, or may, and whose operations are not counted here."""

COUNTED = frozenset(
    (
        *(*_PRODUCTS, *_BATCH_PRODUCTS, *_CONVOLUTIONS, *_BACK_TO_INPUT, *_BACK_TO_FILTER),
        *("Einsum", _DEPTHWISE, f"{_DEPTHWISE}BackpropInput", f"{_DEPTHWISE}BackpropFilter"),
    )
)
"""Types of operations that `flops_of` counts."""


def flops_of(op: Any) -> int | None:
    """Returns two for each multiplication and addition of a matrix product or convolution.

    Args:
        op: An operation of a graph.

    Returns:
        0 for an operation that is neither, see `COUNTED`; None if a size depends on the data.
    """
    if op.type not in COUNTED:
        return 0
    shapes = [tensor.shape for tensor in op.inputs]
    if any(shape.rank is None for shape in (*shapes, *(out.shape for out in op.outputs))):
        return None
    made = op.outputs[0].shape
    if op.type in _PRODUCTS:
        return _product(made, [shapes[0][-2 if op.get_attr("transpose_a") else -1]])
    if op.type in _BATCH_PRODUCTS:
        return _product(made, [shapes[0][-2 if op.get_attr("adj_x") else -1]])
    if op.type == "Einsum":
        return _einsum(op.get_attr("equation").decode(), shapes)
    if op.type in _CONVOLUTIONS:
        return _product(made, shapes[1][:-1])
    if op.type in _BACK_TO_INPUT:
        return _product(shapes[2], shapes[1][:-1])
    if op.type in _BACK_TO_FILTER:
        return _product(shapes[2], made[:-1])
    if op.type == _DEPTHWISE:
        return _product(made, shapes[1][:2])
    of_filter = made if op.type.endswith("Filter") else shapes[1]
    return _product(shapes[2], of_filter[:2])


def _einsum(equation: str, shapes: Sequence[Any]) -> int | None:
    """Returns the operations of a product of two tensors; summing up one alone is no product."""
    if len(shapes) != 2:
        return 0
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, list[int | None]] = {}
    axes = []
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        middle = len(shape) - len(before) - len(after)
        # Numbered from the right, as these axes broadcast.
        many = [f".{middle - place}" for place in range(middle)] if dots else []
        axes.append([*before, *many, *after])
        for label, size in zip(axes[-1], shape, strict=True):
            sizes.setdefault(label, []).append(size)
    kept = set(result.replace("...", ""))
    # What only one of them has is summed up before, unless the result has it too.
    used = [
        found
        for label, found in sizes.items()
        if label in kept or label.startswith(".") or all(label in each for each in axes)
    ]
    if any(size is None for found in used for size in found):
        return None
    return 2 * prod(max(size or 0 for size in found) for found in used)


def _product(shape: Iterable[int | None], more: Iterable[int | None]) -> int | None:
    sizes = [*shape, *more]
    return None if None in sizes else 2 * prod(int(size or 0) for size in sizes)
