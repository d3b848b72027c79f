from __future__ import annotations

import re
from collections.abc import Callable

from tests.unit.recipes.conftest import Run

# Scripts use these flags: renaming one or changing a default breaks them. Change this table only on
# purpose, and record it in the change log.
FLAGS = {
    "this recipe": {
        "dataset": None,
        "image_size": None,
        "dropout": "0.4",
        "augmentation": "1.0",
        "flips": None,
        "label_smoothing": "0.0",
        "weight_decay": None,
        "momentum": None,
        "find_learning_rate": None,
        "find_batch_size": None,
        "validation": "0.0",
    },
    "where to train": {
        "distribution_strategy": "auto",
        "num_replicas": None,
        "all_reduce": None,
        "shard": None,
        "tpu": None,
        "precision": "auto",
    },
    "data": {"data_dir": None, "global_batch_size": "96"},
    "training": {
        "train_epochs": "40",
        "train_steps": None,
        "optimizer": "adam",
        "learning_rate": "0.003",
        "schedule": "cosine",
        "warmup_steps": "0",
        "gradient_clip_norm": None,
        "microbatches": "1",
        "seed": "0",
    },
    "results": {
        "model_dir": None,
        "checkpoint_every": "none",
        "tensorboard": None,
        "predictions": None,
    },
    "this program": {"traceback": None, "verbosity": "-1", "help": None, "flagfile": None},
}
STRATEGIES = ["auto", "one_device", "mirrored", "multi_worker_mirrored", "parameter_server", "tpu"]
OPTIMIZERS = (
    "adadelta|adafactor|adagrad|adam|adamax|adamw|ftrl|lamb|lars|lion|muon|nadam|rmsprop|sgd"
)
SCHEDULES = (
    "constant|cosine|linear|exponential|piecewise|warmup_stable_decay|inverse_square_root|one_cycle"
)
PRECISIONS = ["auto", "float64", "float32", "mixed_bfloat16", "mixed_float16"]


def test_the_flags_and_their_defaults_are_frozen(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--help")
    assert (run.status, run.stderr) == (0, "")
    listed: dict[str, dict[str, str | None]] = {}
    for block in re.split(r"\n\n(?=[a-z ]+:\n  --)", run.stdout)[1:]:
        title, _, flags = block.partition(":\n")
        pattern = r"^  --(?:\[no\])?(\w+)(?:=\S+)?(?:\s+\(default: (.*)\))?$"
        listed[title] = {
            name: default or None for name, default in re.findall(pattern, flags, re.MULTILINE)
        }
    assert listed == FLAGS


def test_the_choices_are_frozen(run_recipe: Callable[..., Run]) -> None:
    lines = run_recipe("--help").stdout.splitlines()
    assert f"  --distribution_strategy={'|'.join(STRATEGIES)}" in lines
    assert f"  --precision={'|'.join(PRECISIONS)}  (default: auto)" in lines
    assert f"  --optimizer={OPTIMIZERS}" in lines
    assert f"  --schedule={SCHEDULES}" in lines


def test_help_explains_every_flag_and_shows_how_to_start(run_recipe: Callable[..., Run]) -> None:
    text = run_recipe("--help").stdout
    assert "python -m recipes.image_classification --dataset=digits" in text
    assert "tfscale launch --num_workers=2" in text
    for head, explanation in re.findall(r"^  --(.*)\n(.*)", text, re.MULTILINE):
        assert re.match(r" {6}\S.*", explanation), head
    # Only lists of choices, which must not be broken, and lines of the synopsis are longer.
    assert sum(len(line) > 80 for line in text.splitlines()) <= 7


def test_a_flag_file_is_read_at_its_position(run_recipe: Callable[..., Run]) -> None:
    # The last value counts; the wrong one proves that the line was read.
    run = run_recipe("--flagfile=/dev/null", "--dataset=nosuch")
    assert (run.status, "--dataset=nosuch" in run.complaints[0]) == (2, True)
