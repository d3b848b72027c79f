"""Program: one worker of a job that runs every case that must succeed.

    python -m tests.workers.agreement FOLDER all
    python -m tests.workers.agreement FOLDER recomputed
    python -m tests.workers.agreement FOLDER rounded

Without a cluster it trains on one device with stock Keras, for comparison.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import keras
import tensorflow as tf

import strategies
from tests.workers import (
    callback_files,
    explained,
    found_rates,
    rendezvous_cases,
    shrunk,
    shuffling,
    side_effects,
    stopping,
    whole_batch,
)
from tests.workers.job import Found, leave

APART = {
    "adapted": shrunk.adapted,
    "distilled": shrunk.distilled,
    "explained": explained.explained,
    "recomputed": whole_batch.recomputed,
    "rounded": shrunk.rounded,
}
"""Cases that have a job of their own."""


def one_device() -> Found:
    stock, no_folder = tf.distribute.get_strategy(), Path()
    return {
        "drawn": side_effects.drawn(stock, no_folder, 0),
        "seeded_alike": shuffling.seeded_alike(stock, no_folder, 0),
        "shuffled_dataset": shuffling.shuffled_dataset(stock, no_folder, 0),
        "own_steps": whole_batch.own_steps(stock, no_folder, 0),
        "small_packs": whole_batch.small_packs(stock, no_folder, 0),
        "backed_up": callback_files.backed_up(stock, None),
    }


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    keras.config.set_floatx("float64")
    if "TF_CONFIG" not in os.environ:
        stock = tf.distribute.get_strategy()
        leave(folder, case, 0, APART[case](stock, folder, 0) if case in APART else one_device())
        return
    strategy = strategies.multi_worker_mirrored_strategy()
    index = strategy.cluster_resolver.task_id
    if case in APART:
        leave(folder, case, index, APART[case](strategy, folder, index))
        return
    found: Found = {}
    modules = (
        rendezvous_cases,
        stopping,
        shuffling,
        callback_files,
        side_effects,
        whole_batch,
        shrunk,
        found_rates,
    )
    for function in (function for module in modules for function in module.CASES):
        print(f"{function.__name__}()", flush=True)
        keras.utils.clear_session()
        found[function.__name__] = function(strategy, folder, index)
    leave(folder, case, index, found)


if __name__ == "__main__":
    main()
