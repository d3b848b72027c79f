"""Runs to show in a report: an ordinary one, and some that could break the layout."""

from __future__ import annotations

import math
import random

from tfscale.report.record import Confusion, Curve, RunRecord, Timing


def ordinary(*, num_classes: int = 10, epochs: int = 40) -> RunRecord:
    """A classification that went well, with as much of everything as a recipe records."""
    draw = random.Random(0)
    steps = epochs * 15

    def falling(start: float, end: float) -> list[float]:
        return [
            end + (start - end) * math.exp(-epoch / 6) * (1 + 0.2 * draw.random())
            for epoch in range(epochs)
        ]

    true = [label for label in range(num_classes) for _ in range(36)]
    predicted = [t if draw.random() < 0.95 else draw.randrange(num_classes) for t in true]
    return RunRecord(
        title="image_classification: digits",
        results={"test_accuracy": 0.99444, "test_loss": 0.021987},
        history={
            "loss": falling(1.9, 0.03),
            "accuracy": [1 - loss / 2.2 for loss in falling(1.9, 0.02)],
            "val_loss": falling(1.4, 0.07),
            "val_accuracy": [1 - loss / 2.2 for loss in falling(1.4, 0.03)],
        },
        curves=[
            Curve(
                "learning rate",
                {"rate": [3e-3 * (1 + math.cos(math.pi * s / steps)) / 2 for s in range(steps)]},
                scale="linear",
            )
        ],
        timing=Timing(
            total_seconds=58.2,
            startup_seconds=9.41,
            training_seconds=42.31,
            seconds_per_step=0.0547,
            num_steps=steps,
            global_batch_size=96,
        ),
        confusion=Confusion.of([str(label) for label in range(num_classes)], true, predicted),
        configuration={
            "dataset": "digits",
            "dropout": 0.4,
            "augment": True,
            "distribution_strategy": "mirrored",
            "num_replicas": 2,
            "all_reduce": None,
            "precision": "auto",
            "global_batch_size": 96,
            "train_epochs": epochs,
            "learning_rate": 0.003,
            "seed": 0,
            "model_dir": "runs/digits",
        },
        environment={
            "strategy": "MirroredStrategy",
            "replicas": 2,
            "workers": 1,
            "devices": "1 CPU",
            "precision": "float32",
            "processor cores": 2,
            "system": "Linux x86_64",
            "python": "3.11.7",
            "tensorflow": "2.21.0",
            "keras": "3.15.1",
            "tfscale": "0.1.0",
        },
        notes=["The test split was looked at once, after training."],
        command="python -m recipes.image_classification --dataset=digits --num_replicas=2",
        finished="2026-11-22 12:40 UTC",
    )


def rough() -> RunRecord:
    """A run that diverged, was resumed and has long names: everything that breaks a layout."""
    nan, inf = math.nan, math.inf
    draw = random.Random(1)
    names = [f"class {label}, a name of many words" for label in range(100)]
    true = [draw.randrange(100) for _ in range(10_000)]
    predicted = [t if draw.random() < 0.8 else draw.randrange(100) for t in true]
    walk = [5.0]
    for _ in range(9_999):
        walk.append(max(1e-6, walk[-1] * (1 + 0.05 * (draw.random() - 0.505))))
    walk[4_321] = 900.0
    walk[7_000:7_050] = [nan] * 50
    return RunRecord(
        title="a_title_without_any_place_to_break_it_" * 4,
        results={
            "test_accuracy": nan,
            "a_very_long_name_of_a_result_without_a_shorter_form": 1e-30,
        },
        history={
            "loss": [2.0, 1.5, nan, inf, 1.1, nan],
            "val_loss": [None, 1.6, None, 1.4, None, 1.5],
            "f1": [0.5] * 6,
        },
        first_epoch=11,
        curves=[
            Curve("loss by step", {"minibatch": walk}, unit="nats"),
            Curve(
                "distance to least squares",
                {f"optimizer_{n}": [10.0 ** (-n * s / 60) for s in range(60)] for n in range(9)},
                scale="log",
            ),
            Curve("one step", {"loss": [0.25]}),
            Curve("nothing finite", {"loss": [nan, nan]}),
        ],
        confusion=Confusion.of(names, true, predicted),
        configuration={"data_dir": "/a/very/long/path" * 12, "empty": "", "tpu": None},
        command="python -m recipes.image_classification " + "--flag=value " * 30,
    )
