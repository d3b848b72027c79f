"""Whether asynchronous training comes to the loss of training in step, at equal samples.

python -m tests.workers.losses_by_hand recommendation --seeds=5
python -m tests.workers.losses_by_hand digits --seeds=5

In step: 2 mirrored replicas. Asynchronously: 2 workers, 2 parameter servers. As many steps of as
many examples in both. Prints a row a seed and the means: the loss of the last epoch's training, and
that of rows or images which were not trained on. Exit status 1 where a mean is more than 5 % above.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.workers.job import ROOT

RUN_SECONDS = 900.0
MOST_ABOVE = 0.05
RECIPES = {
    "recommendation": ("recipes.recommendation",),
    "digits": ("recipes.image_classification", "--dataset=digits"),
}
WAYS = {
    "in step": ((), ("--distribution_strategy=mirrored", "--num_replicas=2")),
    "asynchronous": (
        ("-m", "tfscale", "launch", "--num_workers=2", "--num_ps=2", "--", sys.executable),
        ("--distribution_strategy=parameter_server",),
    ),
}


def main() -> int:
    """Runs what the flags say; 1 where asynchronous training came to a larger loss."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print("| seed | training: in step | asynchronous | held out: in step | asynchronous |")
    print("|---|---|---|---|---|")
    rows = []
    for seed in range(arguments.seeds):
        (train, test), (own_train, own_test) = (
            _losses(arguments.recipe, way, seed) for way in WAYS
        )
        rows.append((train, own_train, test, own_test))
        print(_line(str(seed), rows[-1]), flush=True)
    means = tuple(statistics.fmean(column) for column in zip(*rows, strict=True))
    print(_line("mean", means))
    above = [means[1] / means[0] - 1, means[3] / means[2] - 1]
    print(f"asynchronous: {above[0]:+.1%} of the training loss, {above[1]:+.1%} of the other")
    return int(max(above) > MOST_ABOVE)


def _losses(recipe: str, way: str, seed: int) -> tuple[float, float]:
    """The losses of the last epoch's training and of what was held out."""
    launcher, where = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        flags = (*RECIPES[recipe], *where, f"--seed={seed}", f"--model_dir={folder}")
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        ended = subprocess.run(
            [sys.executable, *launcher, "-m", *flags],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        if ended.returncode:
            raise RuntimeError(f"{recipe} failed {way}:\n{ended.stdout}\n{ended.stderr}")
        summary = json.loads((Path(folder) / "summary.json").read_text("utf-8"))
    return float(summary["history"]["loss"][-1]), float(summary["test_loss"])


def _line(name: str, losses: tuple[float, ...]) -> str:
    return f"| {name} | " + " | ".join(f"{loss:.4f}" for loss in losses) + " |"


if __name__ == "__main__":
    sys.exit(main())
