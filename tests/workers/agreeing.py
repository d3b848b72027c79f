"""Program: one worker of a job that goes through every case in which all goes well.

    python -m tests.workers.agreeing FOLDER all

Without a cluster it is the one device that the workers are compared with, in stock Keras.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import keras
import tensorflow as tf

import strategies
from tests.workers import aside, meeting, order, stopping, whole_batch, writing
from tests.workers.job import Found, leave


def one_device() -> Found:
    stock, nowhere = tf.distribute.get_strategy(), Path()
    return {
        "drawn": aside.drawn(stock, nowhere, 0),
        "seeded_alike": order.seeded_alike(stock, nowhere, 0),
        "shuffled_dataset": order.shuffled_dataset(stock, nowhere, 0),
        "own_steps": whole_batch.own_steps(stock, nowhere, 0),
        "backed_up": writing.backed_up(stock, None),
    }


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    keras.config.set_floatx("float64")
    if "TF_CONFIG" not in os.environ:
        leave(folder, case, 0, one_device())
        return
    strategy = strategies.multi_worker_mirrored_strategy()
    index = strategy.cluster_resolver.task_id
    found: Found = {}
    parts = (meeting, stopping, order, writing, aside, whole_batch)
    for function in (function for part in parts for function in part.CASES):
        print(f"{function.__name__}()", flush=True)
        keras.utils.clear_session()
        found[function.__name__] = function(strategy, folder, index)
    leave(folder, case, index, found)


if __name__ == "__main__":
    main()
