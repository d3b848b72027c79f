from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.regression.problem import LinearProblem, mixed_bits
from tests.programs import completed

Array = np.ndarray[Any, Any]

PROBLEM = LinearProblem(num_rows=200_000, num_features=5, condition=20.0, noise=0.3, seed=4)


@pytest.fixture(scope="module", autouse=True)
def float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def rows(problem: LinearProblem, indices: Any) -> tuple[Array, Array]:
    inputs, targets = problem.rows(tf.constant(indices, tf.int64))
    return inputs.numpy(), targets.numpy()


def test_the_bits_are_those_of_splitmix64() -> None:
    # The first numbers of the generator from state 0, as published with it.
    counter = tf.range(1, 4, dtype=tf.int64)
    step = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    found = mixed_bits(tf.cast(counter, tf.uint64) * step).numpy().tolist()
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_row_depends_only_on_its_index() -> None:
    problem = dataclasses.replace(PROBLEM, num_rows=2**40)
    some = np.array([7, 123_456, 2**40 - 1, 0])
    inputs, targets = rows(problem, some)
    for place, index in enumerate(some):
        one, target = rows(problem, [index])
        np.testing.assert_allclose(one[0], inputs[place], rtol=1e-13)
        np.testing.assert_allclose(target[0], targets[place], rtol=1e-13)
    assert len(np.unique(inputs)) == inputs.size


def test_chunks_are_all_rows_in_order() -> None:
    problem = dataclasses.replace(PROBLEM, num_rows=20_001)
    chunks = list(problem.chunks())
    inputs, targets = rows(problem, np.arange(20_001))
    np.testing.assert_allclose(np.concatenate([x for x, _ in chunks]), inputs, rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([y for _, y in chunks]), targets, rtol=1e-12)
    assert max(len(x) for x, _ in chunks) < 10_000


def test_features_and_errors_have_the_requested_moments() -> None:
    inputs, targets = rows(PROBLEM, np.arange(PROBLEM.num_rows))
    # 200,000 rows: a mean is known to 0.0022 and a variance, of a uniform draw, to 0.2 %.
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=0.01)
    spectrum = np.linalg.eigvalsh(np.cov(inputs.T))
    np.testing.assert_allclose(spectrum, np.geomspace(1 / 20, 1, 5), rtol=0.02)
    errors = targets[:, 0] - inputs @ PROBLEM.coefficients
    assert errors.std() == pytest.approx(0.3, rel=0.01)
    np.testing.assert_allclose(inputs.T @ errors / len(errors), 0, atol=0.005)
    peers = np.corrcoef(inputs[:-1, 0], inputs[1:, 0])[0, 1]
    assert abs(peers) < 0.01
    assert np.linalg.norm(PROBLEM.coefficients) == pytest.approx(1)
    assert np.sum(inputs**2, axis=1).max() <= PROBLEM.largest_square
    # No coordinate is the direction of the largest or the smallest variance by itself.
    assert inputs.var(axis=0).max() < 0.9


def test_another_seed_is_another_problem() -> None:
    other = dataclasses.replace(PROBLEM, seed=5)
    assert not np.allclose(other.coefficients, PROBLEM.coefficients)
    assert np.abs(rows(other, np.arange(9))[0] - rows(PROBLEM, np.arange(9))[0]).min() > 1e-6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_rows", 0),
        ("num_features", 0),
        ("condition", 0.5),
        ("condition", float("nan")),
        ("noise", -0.1),
        ("noise", float("inf")),
        ("seed", 2**31),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}={value!r}\."):
        dataclasses.replace(PROBLEM, **{name: value})


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_rows() -> None:
    done = completed("-m", "tests.unit.recipes.regression.flat_memory", timeout=240)
    assert done.returncode == 0, done.stderr
    grown, matrix = map(int, done.stdout.splitlines()[-1].split())
    print(f"{grown / 2**20:.0f} MiB more for a matrix of {matrix / 2**20:.0f} MiB")
    assert matrix > 140 * 2**20
    assert grown < matrix / 3
