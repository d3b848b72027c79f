"""Batches are distinguished by their contents, and recognised in another order."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from strategies.coordination.first_batch import batch_digest, refuse_other_batches

X, Y = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "c"])


def test_equal_batches_are_accepted_in_any_structure() -> None:
    same = [batch_digest(({"in": part}, Y.copy())) for part in (X, X.copy())]
    assert refuse_other_batches(same) == ""


def test_rows_in_another_order_are_refused_as_such() -> None:
    with pytest.raises(ValueError, match="has the rows of worker 0 in another order"):
        refuse_other_batches([batch_digest((X, Y)), batch_digest((X[::-1], Y[::-1]))])


def test_other_targets_are_refused_with_the_workers_that_have_them() -> None:
    own, other = batch_digest((X, Y)), batch_digest((X, np.array(["a", "b", "d"])))
    with pytest.raises(ValueError, match="on worker 2, 3 the first global batch has other rows"):
        refuse_other_batches([own, own, other, other])


def test_other_sample_weights_count_as_other_targets() -> None:
    digests = [batch_digest((X, Y, np.array([1.0, 1.0, weight]))) for weight in (1.0, 2.0)]
    with pytest.raises(ValueError, match="must be the whole data"):
        refuse_other_batches(digests)


def test_inputs_are_compared_if_there_are_no_targets() -> None:
    with pytest.raises(ValueError, match="must be the whole data"):
        refuse_other_batches([batch_digest(X), batch_digest(X + 1)])


def test_other_inputs_with_the_same_targets_are_reported() -> None:
    report = refuse_other_batches([batch_digest((X, Y)), batch_digest((X + 1, Y))])
    assert "has other inputs on worker 1 than on worker 0" in report


@pytest.mark.parametrize(
    ("targets", "is_refused"),
    [
        pytest.param(np.zeros([32, 1]), True, id="one class: 1 order"),
        pytest.param(np.arange(8) % 2, True, id="8 of two classes: 70 orders"),
        pytest.param(np.arange(32) % 2, False, id="32 of two classes: 6e8 orders"),
        pytest.param(np.arange(8) * 0.1, False, id="8 numbers"),
    ],
)
def test_other_inputs_are_refused_if_targets_may_agree_by_chance(
    targets: np.ndarray, is_refused: bool
) -> None:
    x = np.arange(len(targets))
    digests = [batch_digest((x, targets)), batch_digest((x + 1, targets))]
    if is_refused:
        with pytest.raises(ValueError, match="must be the whole data"):
            refuse_other_batches(digests)
    else:
        assert "has other inputs" in refuse_other_batches(digests)


def test_inputs_that_random_operations_made_are_never_refused() -> None:
    zeros = np.zeros([4, 1])
    digests = [batch_digest((np.arange(4) + shift, zeros)) for shift in (0, 1)]
    assert "has other inputs" in refuse_other_batches(digests, is_augmented=lambda: True)


@pytest.mark.parametrize(
    "part",
    [
        tf.ragged.constant([[1.0], [2.0, 3.0]]),
        tf.sparse.from_dense([[0.0, 1.0], [2.0, 0.0]]),
        [None, np.array([1, 2])],
    ],
    ids=["ragged", "sparse", "None"],
)
def test_every_kind_of_part_has_a_digest(part: object) -> None:
    assert refuse_other_batches([batch_digest((part, Y[:2]))] * 2) == ""
