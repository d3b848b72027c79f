r"""Learns which items a user likes, from clicks: two towers with embeddings in shards.

    python -m recipes.recommendation --distribution_strategy=mirrored --num_replicas=2

    tfscale launch --num_workers=2 --num_ps=2 -- python -m recipes.recommendation \
        --distribution_strategy=parameter_server --num_shards=2

The second command trains asynchronously: each of two parameter servers has half of
each table, and the two workers do not wait for each other. See
docs/howto/parameter_servers.md.

By default each click is generated from its index, by a logistic model of latent
vectors. So the best ranking is known, and is printed beside the result. With
--dataset=movielens/100k-ratings or movielens/1m-ratings, 4 and 5 stars count as a
click. TFDS downloads these sets (not yet tested: needs access to their server).

Prints the loss and the AUC of rows it did not train on, and NDCG and recall of the
first --k items over all users. Writes model.keras, report.html, run.json and
summary.json to --model_dir. With --checkpoint_every=epoch an interrupted run resumes
when it is started again, which the launcher does with --max_restarts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

# TensorFlow's start-up lines would hide those of the recipe. Set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import flags

import strategies
import tfscale
from recipes import checkpoint_flag, common_flags, entry_point, flag_sections, number_flags, results
from recipes.images.training_log import TrainingLog
from recipes.ratings import ranking
from recipes.ratings.build import (
    GENERATED,
    Ratings,
    batches_of,
    flagged_model,
    flagged_ratings,
    model_and_data,  # noqa: F401  (what `tfscale preflight` looks at)
)
from recipes.ratings.model import all_scores
from recipes.run_record import run_record
from tfscale.report import REPORT_FILE, Curve, Timing

FLAGS = flags.FLAGS

_UNUSED = ("train_steps", "microbatches")


def define_flags() -> None:
    """Defines this recipe's flags."""
    with flag_sections.section("this recipe"):
        flags.DEFINE_string(
            "dataset",
            GENERATED,
            "generated, or the TFDS name of a set of ratings, such as movielens/100k-ratings.",
        )
        number_flags.define_integer("num_users", 400, "Users of the generated clicks.")
        number_flags.define_integer("num_items", 200, "Items of the generated clicks.")
        number_flags.define_integer(
            "num_rows", 60_000, "Generated rows to train on; 20,000 more are for testing."
        )
        number_flags.define_integer("embedding_dim", 4, "Elements of a vector.")
        number_flags.define_integer(
            "num_shards",
            2,
            "Parts of each table; with parameter servers, one for each server.",
        )
        number_flags.define_integer("k", 10, "Length of the ranking for NDCG and recall.")
    common_flags.define(without=_UNUSED)
    FLAGS.set_default("global_batch_size", 256)
    FLAGS.set_default("train_epochs", 5)
    FLAGS.set_default("learning_rate", 0.02)
    entry_point.define(__doc__)


def measures(scores: np.ndarray, ratings: Ratings, k: int) -> dict[str, float]:
    """Returns how well scores predict and rank what users like.

    Args:
        scores: Logits, float64 [num_users, num_items].
        ratings: The ratings to compare with.
        k: Length of the ranking for NDCG and recall. At most the number of items.
    """
    users, items, clicks = ratings.test_rows()
    return {
        "test_loss": ranking.log_loss(scores[users, items], clicks),
        "auc": ranking.auc(scores[users, items], clicks),
        f"ndcg_at_{k}": ranking.ndcg(scores, ratings.gains, k),
        f"recall_at_{k}": ranking.recall(scores, ratings.relevant(k), k),
    }


def main(_: Sequence[str]) -> None:
    """Trains and ranks according to the flags, and writes the results."""
    started = time.monotonic()
    # First, because in a worker or a parameter server the call does not return.
    strategy = common_flags.strategy()
    is_chief = strategies.is_chief(strategy)
    tfscale.set_precision(FLAGS.precision, strategy)
    ratings = flagged_ratings()
    if ratings.num_items < FLAGS.k:
        raise ValueError(
            f"`--k` must be at most the number of items, {ratings.num_items}. Received: "
            f"--k={FLAGS.k}. Use a smaller value."
        )
    model_dir = FLAGS.model_dir or "runs/recommendation"
    if is_chief:
        results.make_writable(model_dir, "metrics.csv")
    train = batches_of(ratings, strategy)
    num_steps = FLAGS.train_epochs * train.steps_per_epoch
    log = TrainingLog(common_flags.schedule(num_steps))
    checkpoint = checkpoint_flag.callback(
        model_dir, steps_per_epoch=train.steps_per_epoch, num_steps=num_steps
    )
    callbacks = [log, tfscale.callbacks.ReportTrial()]
    callbacks += [] if checkpoint is None else [checkpoint]
    keras.utils.set_random_seed(FLAGS.seed)
    with strategy.scope():
        model = flagged_model(ratings, num_steps)
    training_started = time.monotonic()
    verbose = 2 if is_chief else 0
    model.fit(train, epochs=FLAGS.train_epochs, verbose=verbose, callbacks=callbacks)
    training_seconds = time.monotonic() - training_started
    plain = results.predictor(model)  # on every worker: with --shard=3 each has a part of it
    if not is_chief:
        return
    found = measures(all_scores(plain), ratings, FLAGS.k)
    best = {}
    if ratings.best_scores is not None:
        best = measures(ratings.best_scores, ratings, FLAGS.k)
    timing = Timing(
        total_seconds=time.monotonic() - started,
        startup_seconds=None if log.first_step_ended is None else log.first_step_ended - started,
        training_seconds=training_seconds,
        num_steps=num_steps,
        global_batch_size=FLAGS.global_batch_size,
    )
    summary = {
        **found,
        "best": best,
        "training_seconds": training_seconds,
        "total_seconds": timing.total_seconds,
        "num_replicas": strategy.num_replicas_in_sync,
        "flags": flag_sections.values(),
        "history": log.history,
    }
    record = run_record(
        f"Recommendations from {FLAGS.dataset}",
        strategy,
        results={**found, **{f"best_{name}": value for name, value in best.items()}},
        timing=timing,
        history=log.history,
        curves=[
            Curve(
                "learning rate of an epoch's last update",
                {"learning rate": log.column("learning_rate")},
                x_name="epoch",
                scale="linear",
            )
        ],
        notes=["best: results of the scores that the clicks were drawn from."] if best else [],
    )
    results.write(model_dir, plain, summary, record, {"metrics.csv": log.csv()})
    if checkpoint is not None:
        checkpoint.directory.clear()  # a finished run is not resumed
    for name, value in found.items():
        beside = f"  (the best scores: {best[name]:.4f})" if best else ""
        print(f"{name}: {value:.4f}{beside}")
    print(f"training time: {training_seconds:.1f} s")
    print(f"model directory: {model_dir}")
    print(f"report: {model_dir}/{REPORT_FILE}")


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
