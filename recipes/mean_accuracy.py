"""Prints the mean test accuracy of several runs, and fails if it is too low.

python -m recipes.mean_accuracy --at_least=0.98 runs/seeds/0/summary.json runs/seeds/1/summary.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path


def main() -> int:
    """Returns 1 if the mean is below `--at_least`."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.mean_accuracy",
        description="Prints the mean test accuracy of several runs. Exit status 1: it is too low.",
    )
    parser.add_argument("--at_least", type=float, default=0.0, help="the lowest accepted mean")
    parser.add_argument("summaries", nargs="+", type=Path, help="the summary.json of each run")
    arguments = parser.parse_args()
    accuracies = []
    for path in arguments.summaries:
        accuracies.append(float(json.loads(path.read_text("utf-8"))["test_accuracy"]))
        print(f"{path}: test accuracy {accuracies[-1]:.4f}")
    mean = statistics.fmean(accuracies)
    print(f"mean test accuracy of {len(accuracies)} runs: {mean:.4f}")
    if mean >= arguments.at_least:
        return 0
    print(f"The mean is below {arguments.at_least:g}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
