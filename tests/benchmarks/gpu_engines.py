"""Program: one process that adds up over all GPUs, by our mirrored strategy or by TensorFlow's.

python -m tests.benchmarks.gpu_engines ADDRESS ENGINE NUM_RANKS THREADS REDUCTION
"""

from __future__ import annotations

import sys

from tests.benchmarks.gpu_child import mirrored, stock_mirrored
from tfscale.bench.collectives.tensorflow_engines import main

if __name__ == "__main__":
    sys.exit(main({"stock_nccl": stock_mirrored, "nccl": mirrored}))
