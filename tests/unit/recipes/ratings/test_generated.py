"""Generated clicks: rows depend only on their index, and follow the documented model."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recipes.ratings import ranking
from recipes.ratings.generated import GeneratedClicks
from recipes.ratings.model import all_scores, two_towers

CLICKS = GeneratedClicks(num_users=40, num_items=20, num_rows=60_000, seed=3)


def made(first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    (users, items), clicks = CLICKS.rows(tf.range(first, first + count, dtype=tf.int64))
    return users.numpy(), items.numpy(), clicks.numpy()


def test_a_row_depends_only_on_its_index() -> None:
    singles = [made(index, 1) for index in range(50, 60)]
    for together, one_by_one in zip(made(50, 10), zip(*singles, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.concatenate(one_by_one))


def test_users_and_items_are_uniform_and_independent() -> None:
    users, items, _ = made(0, 80_000)
    counts = np.zeros((40, 20))
    np.add.at(counts, (users, items), 1)
    # Chi-squared with 799 degrees of freedom: mean 799, standard deviation 40.
    assert abs(((counts - 100) ** 2 / 100).sum() - 799) < 5 * 40


def test_clicks_come_as_often_as_the_scores_say() -> None:
    users, items, clicks = made(0, 80_000)
    likely = 1 / (1 + np.exp(-CLICKS.best_scores[users, items]))
    for lowest in np.arange(0, 1, 0.1):
        bucket = (likely >= lowest) & (likely < lowest + 0.1)
        deviation = np.sqrt((likely * (1 - likely))[bucket].sum())
        assert abs((clicks - likely)[bucket].sum()) < 5 * deviation


def test_no_other_scores_do_better_on_rows_for_testing() -> None:
    users, items, clicks = CLICKS.test_rows()
    assert len(users) == 20_000
    best = CLICKS.best_scores
    noise = np.random.default_rng(0).normal(size=best.shape)
    losses = [
        ranking.log_loss(scores[users, items], clicks)
        for scores in (best, best + 0.3 * noise, 1.3 * best, 0.7 * best)
    ]
    assert losses[0] == min(losses)
    assert ranking.ndcg(best, CLICKS.gains, k=5) == 1.0
    assert ranking.recall(best, CLICKS.relevant(5), k=5) == 1.0


def test_scores_of_all_pairs_equal_the_predictions_of_the_model() -> None:
    model = two_towers(40, 20, embedding_dim=3, num_shards=2, seed=1)
    model.get_layer("biases").set_weights([np.arange(0.0, 20, 2)[:, None], np.ones((10, 1))])
    users, items = (part.ravel() for part in np.indices((40, 20)))
    one_by_one = model([tf.constant(users), tf.constant(items)]).numpy().reshape(40, 20)
    np.testing.assert_allclose(all_scores(model), one_by_one, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("num_users", 0), ("latent_dim", 0), ("num_test", -1), ("seed", -1)]
)
def test_impossible_sizes_are_refused(name: str, value: int) -> None:
    given = {"num_users": 4, "num_items": 2, "num_rows": 6, "seed": 0, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        GeneratedClicks(**given)
