"""Program: the first step of stock Keras on two workers, with C1 patched.

python -m tests.benchmarks.start_child FOLDER VARIANT NUM_WORKERS THREADS START
"""

from __future__ import annotations

import sys
from typing import Any

from tfscale.bench.starting.tensorflow_start import main


def patched_workers() -> Any:
    """TensorFlow's strategy, imported when its turn has come: the imports are a phase."""
    from tests.benchmarks import stock

    return stock.patched_workers()


def own_shares(strategy: Any, dataset: Any) -> Any:
    """Each worker's rows of the batch."""
    from tests.benchmarks import stock

    return stock.own_shares(strategy, dataset)


if __name__ == "__main__":
    sys.exit(main({"patched_workers": patched_workers}, own_shares))
