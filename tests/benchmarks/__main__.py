"""The cost benchmark behind `make bench`.

python -m tests.benchmarks --model=mlp
python -m tests.benchmarks --model=tiny_mlp --variants=stock,one_device --rounds=9
"""

from __future__ import annotations

import sys

from tests.benchmarks.peers import benchmark_variants
from tests.benchmarks.race import raced

if __name__ == "__main__":
    sys.exit(raced("python -m tests.benchmarks", benchmark_variants()))
