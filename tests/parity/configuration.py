"""One training run of the sweep, and the text that names it."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any

from tests.parity.kinds import NEW, ORDINARY, STAGED

MIN_STEPS = 20
"""Enough for a schedule, an accumulation and a growing loss scale to have effects."""

SHARDED = (
    *(f"mirrored_shard{stage}_{replicas}" for stage in (1, 2, 3) for replicas in (2, 3, 4)),
    *(f"workers_shard{stage}_2" for stage in (1, 2, 3)),
)
"""Strategies whose replicas keep parts: stage, then number of replicas."""

PIPELINES = (
    *(f"pipeline{stages}_{replicas}" for stages in (2, 4) for replicas in (1, 2)),
    *(f"pipeline{stages}_shard{shard}_2" for stages in (2, 4) for shard in (1, 2, 3)),
)
"""Strategies under which a model is a pipeline: stages, `shard`, then number of replicas."""

DIVIDED = ("tensor2_1", "tensor2_2")
"""Strategies under which a model has tensor parallelism: devices, then number of replicas."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "model": (*ORDINARY, *NEW, *STAGED),
    "optimizer": (
        "sgd",
        "nesterov",
        "adam",
        "amsgrad",
        "adamw",
        "schedule_free_adamw",
        "adagrad",
        "adadelta",
        "adamax",
        "nadam",
        "rmsprop",
        "ftrl",
        "lion",
        "lamb",
        "adafactor",
        "muon",
    ),
    "clip": ("none", "clipnorm", "global_clipnorm", "clipvalue"),
    "accumulation": (1, 2, 3),
    "microbatches": (1, 2, 4, 8),
    "ema": ("none", "plain", "overwrite"),
    "weight_decay": (False, True),
    "schedule": ("constant", "cosine", "exponential", "piecewise"),
    "precision": ("float64", "float32", "mixed_float16", "mixed_bfloat16"),
    "loss_scaling": (False, True),
    "loss": (
        "mse",
        "mae",
        "huber",
        "log_cosh",
        "cosine",
        "hinge",
        "binary",
        "focal",
        "categorical",
        "sparse",
        "dice",
    ),
    "reduction": ("mean", "sum", "mean_with_sample_weight", "none"),
    "weights": ("none", "sample", "class"),
    "steps_per_execution": (1, 2, 5),
    "run_eagerly": (False, True),
    "data": (
        "arrays",
        "dataset",
        "unknown_length",
        "endless",
        "generator",
        "endless_generator",
        "pydataset",
        "pipeline",
    ),
    "validation": ("none", "arrays", "dataset"),
    "overflow": (False, True),
    "strategy": (
        "mirrored1",
        "mirrored2",
        "mirrored3",
        "mirrored4",
        "workers2",
        "workers3",
        *SHARDED,
        *PIPELINES,
        *DIVIDED,
    ),
    "pipeline_schedule": ("gpipe", "1f1b", "interleaved"),
    "virtual_stages": (1, 2),
}


@dataclass(frozen=True)
class Configuration:
    """A model, how it is trained, on which data, and under which strategy.

    `str` returns its name, the fields that differ from the defaults; `parse` reads it.

    Attributes:
        model: Name of a model in the zoo.
        optimizer: Name of an optimizer.
        clip: The optimizer's clipping, or "none".
        accumulation: `gradient_accumulation_steps`; 1 for none.
        microbatches: Of `tfscale.callbacks.Microbatches`, or of a pipeline; the reference computes
            whole batches.
        ema: "plain" is `use_ema`, "overwrite" adds `ema_overwrite_frequency`.
        weight_decay: Whether the optimizer decays weights.
        schedule: Learning rate schedule.
        precision: Keras's dtype policy.
        loss_scaling: Whether the test wraps the optimizer in a `LossScaleOptimizer`; under
            mixed_float16 Keras does.
        loss: Name of a loss.
        reduction: The loss's reduction.
        weights: Whether rows or classes have weights.
        rows: Examples of an epoch. Positive.
        batch: Examples of a global batch. Positive.
        steps_per_execution: As in `compile`.
        run_eagerly: As in `compile`.
        data: How the examples reach `fit`.
        validation: How validation data reach `fit`, or "none".
        overflow: Whether the last target of every third batch overflows half precision.
        seed: Seed of data and initial weights.
        strategy: Kind and number: replicas in one process, or workers of one replica each.
        pipeline_schedule: Of `tfscale.parallel.Pipeline`.
        virtual_stages: Of `tfscale.parallel.Pipeline`.
    """

    model: str = "mlp"
    optimizer: str = "sgd"
    clip: str = "none"
    accumulation: int = 1
    microbatches: int = 1
    ema: str = "none"
    weight_decay: bool = False
    schedule: str = "constant"
    precision: str = "float64"
    loss_scaling: bool = False
    loss: str = "mse"
    reduction: str = "mean"
    weights: str = "none"
    rows: int = 50
    batch: int = 16
    steps_per_execution: int = 1
    run_eagerly: bool = False
    data: str = "arrays"
    validation: str = "none"
    overflow: bool = False
    seed: int = 0
    strategy: str = "mirrored2"
    pipeline_schedule: str = "gpipe"
    virtual_stages: int = 1

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, values))}. Received: "
                    f"{name}={getattr(self, name)!r}. Correct the configuration's text."
                )
        for name in ("rows", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be positive. Received: {name}={getattr(self, name)!r}. "
                    "Count examples."
                )

    def __str__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name not in ("model", "strategy")
            and getattr(self, field.name) != field.default
        ]
        return " ".join([self.model, *changed, f"on={self.strategy}"])

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """Reads a configuration from the text that `str` returns.

        Args:
            text: A text such as `"mlp clip=clipnorm rows=61 on=mirrored3"`.

        Raises:
            ValueError: If a field or value is unknown.
        """
        model, *pairs = text.split()
        types = typing.get_type_hints(cls)
        values: dict[str, Any] = {"model": model}
        for pair in pairs:
            name, _, value = pair.partition("=")
            name = "strategy" if name == "on" else name
            if name not in types:
                raise ValueError(
                    f"`text` must name fields of Configuration. Received: {pair!r} in {text!r}. "
                    f"The fields are {', '.join(types)}."
                )
            values[name] = (
                {"True": True, "False": False}.get(value) if types[name] is bool else value
            )
            if types[name] is int:
                values[name] = int(value)
        return cls(**values)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches per epoch; the last one may be smaller."""
        return math.ceil(self.rows / self.batch)

    @property
    def epochs(self) -> int:
        """Epochs for `MIN_STEPS` steps, at least two, to test what happens between epochs."""
        return max(2, math.ceil(MIN_STEPS / self.steps_per_epoch))

    @property
    def num_replicas(self) -> int:
        """Replicas in sync."""
        return int(self.strategy[-1])

    @property
    def shard(self) -> int:
        """What replicas keep parts of; 0 for nothing."""
        return shard_of(self.strategy)

    @property
    def runs(self) -> int:
        """Runs of layers into which a pipeline cuts the model; 0 if it is none."""
        is_pipeline = self.strategy in PIPELINES
        return devices_of(self.strategy) * self.virtual_stages if is_pipeline else 0

    @property
    def num_workers(self) -> int:
        """Processes that train; one under a mirrored strategy."""
        return self.num_replicas if self.strategy.startswith("workers") else 1

    @property
    def is_half(self) -> bool:
        """Whether layers compute in half precision."""
        return self.precision.startswith("mixed")


def shard_of(strategy: str) -> int:
    """Returns the stage in a strategy's name, 0 if there is none."""
    return int(strategy.partition("_shard")[2][:1] or 0)


def devices_of(strategy: str) -> int:
    """Returns the number of devices of each replica of a strategy."""
    kind = strategy.partition("_")[0]
    return int(kind[-1]) if strategy in (*PIPELINES, *DIVIDED) else 1
