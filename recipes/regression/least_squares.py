"""The least-squares solution of a stream of rows, and the distance of other coefficients.

    solution = least_squares(problem.chunks())
    solution.distance(model.get_weights()[0])

Uses only NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The coefficients `w` that minimise the mean of `(x . w - y)^2` over all rows.

    Attributes:
        coefficients: The solution, float64 [num_features].
        factor: R of the rows' QR decomposition, float64 [num_features, num_features]: X^T X of
            the rows is R^T R.
        num_rows: Rows. At least the features.
        loss: The minimum of the loss, the mean of the squared residuals.
    """

    coefficients: np.ndarray
    factor: np.ndarray
    num_rows: int
    loss: float

    @property
    def curvatures(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue of the loss's Hessian, 2 X^T X / n."""
        singular = np.linalg.svd(self.factor, compute_uv=False)
        smallest, largest = (float(2 * s**2 / self.num_rows) for s in (singular[-1], singular[0]))
        return smallest, largest

    def distance(self, coefficients: np.ndarray) -> float:
        """Returns the distance of `coefficients` to the solution, in lengths of the solution."""
        apart = np.ravel(coefficients).astype(np.float64) - self.coefficients
        return float(np.linalg.norm(apart) / np.linalg.norm(self.coefficients))

    def loss_gap(self, coefficients: np.ndarray) -> float:
        """Returns by how much the loss of `coefficients` exceeds the minimum.

        Computed as |R (w - w*)|^2 / n, which rounding cannot make negative.
        """
        apart = np.ravel(coefficients).astype(np.float64) - self.coefficients
        return float(np.sum((self.factor @ apart) ** 2) / self.num_rows)


def least_squares(chunks: Iterable[tuple[np.ndarray, np.ndarray]]) -> LeastSquares:
    """Solves a least-squares problem in one pass over its rows, with one chunk in memory at a time.

    Each chunk is put under the triangle of the earlier chunks, and both are reduced to a triangle.
    The rounding error grows with the condition number of the rows. That of the sums X^T X and
    X^T y, which would be simpler, grows with its square.

    Args:
        chunks: Inputs [n, num_features] and targets [n] or [n, 1]; n may differ. All
            computation is in float64.

    Raises:
        ValueError: If the rows do not determine the solution, or are not finite.

    Example:
        >>> rows = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
        >>> least_squares([(rows[:2], [1.0, 3.0]), (rows[2:], [5.0])]).coefficients.round(12)
        array([1., 2.])

    Source: Demmel, Grigori, Hoemmen, Langou 2012, "Communication-optimal parallel and sequential QR
    and LU factorizations", arXiv:0808.2664, section 4 (sequential TSQR).
    """
    triangle: np.ndarray | None = None
    num_rows = 0
    for inputs, targets in chunks:
        columns = [np.asarray(inputs), np.reshape(targets, [-1, 1])]
        chunk = np.concatenate(columns, axis=1, dtype=np.float64)
        num_rows += len(chunk)
        stacked = chunk if triangle is None else np.concatenate([triangle, chunk])
        triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
    if triangle is None or len(triangle) < triangle.shape[1] - 1:
        raise ValueError(
            "`chunks` must have at least as many rows as features. Received: "
            f"{num_rows} rows. Use more rows or fewer features."
        )
    features = triangle.shape[1] - 1
    factor, projected = triangle[:features, :features], triangle[:features, features]
    if not np.isfinite(triangle).all():
        raise ValueError("`chunks` must have finite numbers. Received: inf or NaN. Clean the rows.")
    if np.linalg.matrix_rank(factor) < features:
        raise ValueError(
            "`chunks` must have independent features. Received: features of rank "
            f"{np.linalg.matrix_rank(factor)} of {features}. Leave out the redundant ones."
        )
    # The entry below the triangle of the inputs is the length of the residuals.
    residual = float(triangle[features, features]) if len(triangle) > features else 0.0
    return LeastSquares(
        coefficients=np.linalg.solve(factor, projected),
        factor=factor,
        num_rows=num_rows,
        loss=residual**2 / num_rows,
    )
