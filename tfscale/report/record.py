"""The record of a run, as plain values: a program writes it, `page` shows it.

    run = RunRecord(
        title="digits",
        results={"test_accuracy": 0.9944},
        history={"loss": [1.2, 0.4], "val_loss": [1.1, 0.5]},
        curves=[Curve("learning rate", {"rate": rates}, x_name="step")],
        timing=Timing(total_seconds=42.3, num_steps=600),
    )

Values are checked and copied on construction: NumPy's numbers and arrays become Python's, and
secrets in flags, texts and the command become `***` (`tfscale.files.secret_masking` says which).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from tfscale.files.secret_masking import masked, masked_command, masked_text
from tfscale.report import values
from tfscale.report.stages import Stages

Scale = Literal["auto", "linear", "log"]
SCALES = ("auto", "linear", "log")


@dataclass(frozen=True)
class Curve:
    """Series that share a chart: value `i` of each is at x = `first` + `i` * `every`.

    Attributes:
        title: What is measured. Not empty.
        series: Values by the name of the series. None means no value at this x; NaN and infinity
            are shown as gaps.
        x_name: What x counts, in the singular: "step", "epoch".
        first: x of the first values, at least 0.
        every: Distance in x from one value to the next. Positive.
        unit: Of the values; empty where they have none.
        scale: Of the y axis. "auto" is logarithmic if all values are positive and the largest is
            more than 1000 times the smallest.
    """

    title: str
    series: Mapping[str, Sequence[float | None]]
    x_name: str = "step"
    first: int = 1
    every: int = 1
    unit: str = ""
    scale: Scale = "auto"

    def __post_init__(self) -> None:
        values.text("title", self.title)
        values.text("x_name", self.x_name)
        values.any_text("unit", self.unit)
        values.count("first", self.first, at_least=0)
        values.count("every", self.every, at_least=1)
        if self.scale not in SCALES:
            raise ValueError(
                f"`scale` must be one of {', '.join(SCALES)}. Received: "
                f"scale={values.shown(self.scale)}. Leave it out for auto."
            )
        _set(self, "series", values.series("series", self.series))


@dataclass(frozen=True)
class Timing:
    """How long a run took, in seconds. None means not measured; the report leaves it out.

    Attributes:
        total_seconds: From the start of the program to its end.
        startup_seconds: From the start of the program to the end of the first step. Includes the
            time in which TensorFlow traces and compiles.
        training_seconds: Of `fit`.
        seconds_per_step: Of a step after the first one.
        num_steps: Optimizer steps of this run.
        global_batch_size: Rows of one step over all replicas; gives examples per second.
    """

    total_seconds: float | None = None
    startup_seconds: float | None = None
    training_seconds: float | None = None
    seconds_per_step: float | None = None
    num_steps: int | None = None
    global_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if value is None:
                continue
            if name.endswith(("_seconds", "_per_step")):
                seconds = values.number(name, value)
                if not 0 <= seconds < math.inf:
                    raise ValueError(
                        f"`{name}` must be finite and not negative. Received: {name}={value!r}. "
                        "Leave it out if it was not measured."
                    )
                _set(self, name, seconds)
            else:
                _set(self, name, values.count(name, value, at_least=0))


@dataclass(frozen=True)
class Confusion:
    """How often examples of each class were predicted as each class.

    Attributes:
        labels: Names of the classes. At least one.
        matrix: Row `i`, column `j`: examples of class `i` that were predicted as class `j`.
    """

    labels: Sequence[str]
    matrix: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        values.sequence("labels", self.labels)
        values.sequence("matrix", self.matrix)
        for row in self.matrix:
            values.sequence("matrix", row)
        labels = tuple(str(label) for label in self.labels)
        rows = [tuple(row) for row in self.matrix]
        if not labels or len(rows) != len(labels) or {len(row) for row in rows} != {len(labels)}:
            raise ValueError(
                "`matrix` must have a row and a column for each of the labels, at least one. "
                f"Received: rows of {values.shown([len(row) for row in rows])} columns, "
                f"{len(labels)} labels. "
                "Count predictions with `Confusion.of`."
            )
        counts = tuple(tuple(_count(n) for n in row) for row in rows)
        _set(self, "labels", labels)
        _set(self, "matrix", counts)

    @classmethod
    def of(cls, labels: Sequence[str], true: Iterable[int], predicted: Iterable[int]) -> Confusion:
        """Counts predictions.

        Args:
            labels: Names of the classes.
            true: The class of each example, in [0, number of labels).
            predicted: The predicted class of each, in the same order and range.

        Raises:
            ValueError: If a class has no label, or `true` and `predicted` differ in length.

        Example:
            >>> Confusion.of(["cat", "dog"], [0, 0, 1], [0, 1, 1]).matrix
            ((1, 1), (0, 1))
        """
        matrix = [[0] * len(labels) for _ in labels]
        for row, column in zip(true, predicted, strict=True):
            if not (0 <= row < len(labels) and 0 <= column < len(labels)):
                raise ValueError(
                    f"`true` and `predicted` must be classes in [0, {len(labels)}). Received: "
                    f"true={row!r}, predicted={column!r}. Give a label for every class."
                )
            matrix[int(row)][int(column)] += 1
        return cls(labels, matrix)


@dataclass(frozen=True)
class RunRecord:
    """Everything that a report shows of one run; only the title is required.

    Attributes:
        title: What was trained. Not empty.
        results: Results, most important first: `{"test_accuracy": 0.9944}`.
        configuration: Flags and their values, JSON values.
        environment: Versions, devices, strategy: `environment(strategy)`.
        timing: How long it took.
        history: Keras's `History.history`: `x` and `val_x` share a chart. All of one length; None
            for an epoch without a value.
        first_epoch: Number of the first epoch of `history`; above 1 for a resumed run.
        curves: More charts: the learning rate by step, or several optimizers on one plot.
        confusion: How classes were confused, for classification.
        stages: A step of a pipeline, as measured: `Stages.of(pipeline)`.
        notes: Sentences for the reader.
        command: The command line that repeats the run.
        finished: When it ended, as text with the time zone.
    """

    title: str
    results: Mapping[str, float] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    history: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    first_epoch: int = 1
    curves: Sequence[Curve] = ()
    confusion: Confusion | None = None
    stages: Stages | None = None
    notes: Sequence[str] = ()
    command: str = ""
    finished: str = ""

    def __post_init__(self) -> None:
        values.text("title", self.title)
        history = values.series("history", self.history)
        if len({len(of_epochs) for of_epochs in history.values()}) > 1:
            lengths = {name: len(of_epochs) for name, of_epochs in history.items()}
            raise ValueError(
                "`history` must have one value per epoch for each name. Received: values by "
                f"name={values.shown(lengths)}. Use None for epochs without one."
            )
        _set(self, "history", history)
        values.mapping("results", self.results)
        results = {str(name): values.number("results", v) for name, v in self.results.items()}
        _set(self, "results", results)
        _set(self, "configuration", masked(values.plain("configuration", self.configuration)))
        _set(self, "environment", masked(values.plain("environment", self.environment)))
        _set(self, "first_epoch", values.count("first_epoch", self.first_epoch, at_least=0))
        values.mapping("configuration", self.configuration)
        values.mapping("environment", self.environment)
        values.sequence("curves", self.curves)
        values.sequence("notes", self.notes)
        for note in self.notes:
            values.any_text("notes", note)
        values.any_text("command", self.command)
        values.any_text("finished", self.finished)
        _set(self, "curves", tuple(self.curves))
        _set(self, "notes", tuple(masked_text(note) for note in self.notes))
        _set(self, "title", masked_text(self.title))
        _set(self, "command", masked_command(self.command))


def _count(value: Any) -> int:
    # The quick case: there may be millions.
    if type(value) is int and 0 <= value <= values.LARGEST_COUNT:
        return value
    return values.count("matrix", value, at_least=0)


def _set(record: object, name: str, value: object) -> None:
    object.__setattr__(record, name, value)  # Only during construction: a record is frozen.
