"""Compares the losses of asynchronous and of synchronous training after equally many examples.

python -m tests.asynchronous.losses recommendation --seeds=5
python -m tests.asynchronous.losses digits --seeds=10

Asynchronous training has 2 workers with 2 parameter servers, and a batch per worker. Synchronous
training has 2 mirrored replicas, in two ways that are both "the same training": with half a batch
per replica, so that there are equally many updates of equally many examples; and with a batch per
replica, so that a step of a worker is the same and there are half as many updates. All train on
equally many examples.

The rules were written before the runs. Three losses are compared: that of training, the mean over
the last quarter of the epochs; the mean over all epochs, which shows how fast it fell, and does not
divide one number near 0 by another; and that of rows or images not trained on. Runs of one seed are
a pair, because the seed also draws the clicks. So the result is the mean over seeds of the
logarithm of asynchronous / synchronous, with its standard error. It is within 5 % if below 5 %
with two standard errors added, and above if it is above 5 % with two subtracted; else the seeds do
not decide. Exit status 1 if one is above.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.programs import completed

RUN_SECONDS = 1800.0
MOST_ABOVE = 0.05
RECIPES = {
    "recommendation": (("recipes.recommendation",), 256),
    "digits": (("recipes.image_classification", "--dataset=digits"), 96),
}
"""The recipe, and the examples of a batch."""

LAUNCHER = ("-m", "tfscale", "launch", "--num_workers=2", "--num_ps=2", "--", sys.executable)
MIRRORED = ("--distribution_strategy=mirrored", "--num_replicas=2")
ASYNCHRONOUS = "asynchronous"
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "synchronous, half a batch each": ((), MIRRORED, 1),
    "synchronous, a batch each": ((), MIRRORED, 2),
    ASYNCHRONOUS: (LAUNCHER, ("--distribution_strategy=parameter_server",), 1),
}
"""The launcher, the strategy's flags, and the batches that one update takes."""

COMPARED = ("training", "all_epochs", "held_out")


@dataclass(frozen=True)
class Losses:
    """The losses of one run.

    Attributes:
        training: Mean over the last quarter of the epochs.
        all_epochs: Mean over all epochs.
        held_out: Of examples that were not trained on.
        staleness: Mean over all steps, in updates; 0 if synchronous.
        max_staleness: The largest of all steps; 0 if synchronous.
    """

    training: float
    all_epochs: float
    held_out: float
    staleness: float
    max_staleness: float


def main() -> int:
    """Runs what the flags say; returns 1 if asynchronous training has a larger loss."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--flags", default="", help="more flags of the recipe, in one text")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"`--seeds` must be at least 2. Received: --seeds={arguments.seeds}.")
    print("| seed | two workers | training | all epochs | held out | staleness: mean, largest |")
    print("|---|---|---|---|---|---|")
    recipe, batch = RECIPES[arguments.recipe]
    runs: dict[str, list[Losses]] = {way: [] for way in WAYS}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for way, done in runs.items():
            flags = (*recipe, *shlex.split(arguments.flags), f"--seed={seed}")
            done.append(_losses(flags, way, batch))
            print(_line(seed, way, done[-1]), flush=True)
    own = runs.pop(ASYNCHRONOUS)
    is_above = False
    for way, in_step in runs.items():
        print(f"{ASYNCHRONOUS}, compared with {way}:")
        for name in COMPARED:
            line, above = judged(*([getattr(run, name) for run in both] for both in (in_step, own)))
            print(f"  {name.replace('_', ' ')}: {line}")
            is_above = is_above or above
    return int(is_above)


def judged(in_step: Sequence[float], own: Sequence[float]) -> tuple[str, bool]:
    """Returns how pairs of losses compare with the limit of 5 %, and whether it is exceeded.

    Args:
        in_step: Losses of synchronous training. Positive, at least 2.
        own: As many of asynchronous training.
    """
    differences = [math.log(b / a) for a, b in zip(in_step, own, strict=True)]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    spread = math.expm1(statistics.stdev(math.log(a) for a in in_step))
    low, high = (math.expm1(mean + factor * error) for factor in (-2, 2))
    verdict = "not decided by these seeds"
    if high <= MOST_ABOVE:
        verdict = f"within {MOST_ABOVE:.0%}"
    elif low > MOST_ABOVE:
        verdict = f"more than {MOST_ABOVE:.0%} above"
    line = (
        f"{statistics.fmean(in_step):.4f} synchronous, {statistics.fmean(own):.4f} asynchronous: "
        f"{math.expm1(mean):+.1%} ({low:+.1%} to {high:+.1%}): {verdict}; one "
        f"standard deviation of synchronous seeds is {spread:.1%}"
    )
    return line, low > MOST_ABOVE


def _losses(flags: Sequence[str], way: str, batch: int) -> Losses:
    launcher, strategy, batches = WAYS[way]
    where = (*strategy, f"--global_batch_size={batches * batch}")
    with tempfile.TemporaryDirectory() as folder:
        ended = completed(
            *launcher, "-m", *flags, *where, f"--model_dir={folder}", timeout=RUN_SECONDS
        )
        if ended.returncode:
            raise RuntimeError(f"{flags} failed {way}:\n{ended.stdout}\n{ended.stderr}")
        summary = json.loads((Path(folder) / "summary.json").read_text("utf-8"))
    history = summary["history"]
    last = history["loss"][-math.ceil(len(history["loss"]) / 4) :]
    return Losses(
        training=statistics.fmean(last),
        all_epochs=statistics.fmean(history["loss"]),
        held_out=float(summary["test_loss"]),
        staleness=statistics.fmean(history.get("staleness", [0.0])),
        max_staleness=max(history.get("max_staleness", [0.0])),
    )


def _line(seed: int, way: str, run: Losses) -> str:
    losses = " | ".join(f"{getattr(run, name):.4f}" for name in COMPARED)
    return f"| {seed} | {way} | {losses} | {run.staleness:.2f}, {run.max_staleness:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
