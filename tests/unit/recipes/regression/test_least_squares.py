from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recipes.regression.least_squares import LeastSquares, least_squares

Array = np.ndarray[Any, Any]


def problem(rows: int, condition: float = 10.0) -> tuple[Array, Array]:
    """Four features whose singular values span `condition`, and noisy targets."""
    random = np.random.default_rng(7)
    left, _ = np.linalg.qr(random.normal(size=(rows, 4)))
    right, _ = np.linalg.qr(random.normal(size=(4, 4)))
    inputs = left @ np.diag(np.geomspace(1, 1 / condition, 4)) @ right
    return inputs, inputs @ [[1.0], [-2.0], [3.0], [0.5]] + 0.01 * random.normal(size=(rows, 1))


def solved(inputs: Array, targets: Array, size: int) -> LeastSquares:
    starts = range(0, len(inputs), size)
    return least_squares((inputs[s : s + size], targets[s : s + size]) for s in starts)


@pytest.mark.parametrize("size", [1, 3, 4, 50, 101])
def test_chunks_of_any_size_give_the_solution_of_the_whole(size: int) -> None:
    inputs, targets = problem(101)
    found = solved(inputs, targets, size)
    wanted, squares, _, singular = np.linalg.lstsq(inputs, targets)
    np.testing.assert_allclose(found.coefficients, wanted[:, 0], rtol=1e-12)
    assert found.loss == pytest.approx(float(squares[0]) / 101, rel=1e-12)
    hessian = (2 * singular[-1] ** 2 / 101, 2 * singular[0] ** 2 / 101)
    assert found.curvatures == pytest.approx(hessian, rel=1e-12)


def test_the_error_grows_with_the_condition_and_not_with_its_square() -> None:
    inputs, _ = problem(200, condition=1e7)
    exact = np.array([1.0, -2.0, 3.0, 0.5])
    found = solved(inputs, inputs @ exact, 16)
    assert np.linalg.norm(found.coefficients - exact) < 1e-7  # 1e7 x 1e-16, and some
    summed = np.linalg.solve(inputs.T @ inputs, inputs.T @ (inputs @ exact))
    assert np.linalg.norm(summed - exact) > 1e-5


def test_the_gap_is_the_difference_of_the_losses() -> None:
    inputs, targets = problem(60)
    found = solved(inputs, targets, 16)
    other = np.add(found.coefficients, [0.1, -0.2, 0.0, 0.3])
    loss = float(np.mean((inputs @ other - targets[:, 0]) ** 2))
    assert found.loss_gap(other) == pytest.approx(loss - found.loss, rel=1e-9)
    wanted = np.sqrt(0.14) / np.linalg.norm(found.coefficients)
    assert found.distance(other[:, np.newaxis]) == pytest.approx(wanted, rel=1e-12)


def test_as_many_rows_as_features_leave_no_residual() -> None:
    inputs, targets = problem(4)
    found = solved(inputs, targets, 2)
    np.testing.assert_allclose(inputs @ found.coefficients, targets[:, 0], rtol=1e-9)
    assert found.loss == pytest.approx(0, abs=1e-25)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((0, 2)), "at least as many rows as features. Received: 0 rows"),
        (np.eye(1, 2), "at least as many rows as features. Received: 1 rows"),
        (np.ones((5, 2)), "independent features. Received: features of rank 1 of 2"),
        (np.full((5, 2), np.inf), "finite numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_rows_without_a_solution_are_refused(inputs: Array, message: str) -> None:
    chunks = [(inputs, np.zeros(len(inputs)))] if len(inputs) else []
    with pytest.raises(ValueError, match=message):
        least_squares(chunks)
