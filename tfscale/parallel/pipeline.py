"""Pipelines: the layers of a model on several devices of each replica."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import (
    SCHEDULES,
    Unit,
    all_layers,
    announce,
    bubble_by_formula,
    device_orders,
    devices_by_replica,
    graph_of,
    is_divided,
    nodes_in_order,
    one_of,
    places_to_cut,
    refuse_model_outside,
    sequence,
    timeline,
    train_as_pipeline,
    truth,
    whole_number,
)
from tfscale.files.output_files import write_whole
from tfscale.parallel.layer_costs import measured_costs
from tfscale.parallel.pipeline_picture import svg_picture, text_picture
from tfscale.parallel.stage_cuts import balanced_cut, check_schedule, named_cut


class Pipeline:
    """Trains a model as a pipeline: its layers are on several devices, in stages.

    Every replica of a strategy with `devices_per_replica=S` computes the model in S stages, one on
    each of its devices. A replica batch is cut into microbatches that follow each other through the
    stages. `model` stays a plain Keras model: `fit`, `evaluate`, `predict` and `save` are its own,
    and give what they give on one device. Weights, gradients and the optimizer's slots live with
    their stage, and are reduced between the replicas' devices of that stage.

    A stage is a run of the model's operations, in the order in which Keras computes them. Skip
    connections go over cuts; several inputs and outputs are allowed. A layer in several stages has
    its weights and slots in the first; the others read a copy, sent once a step. But all uses of a
    layer that assigns state, or draws random numbers, must be in one stage. A nested model is one
    operation.

    With S stages and M microbatches, of equal cost, a device waits for this part of a step:
    (S - 1) / (M + S - 1), or (S - 1) / (V M + S - 1) with V virtual stages.

    * "gpipe" keeps the activations of all M microbatches.
    * "1f1b" keeps those of at most S; stage s those of S - s.
    * "interleaved" gives each device `virtual_stages` runs of layers. It waits less and sends more.

    What a layer does in `call` it does once a microbatch: BatchNormalization normalizes with the
    statistics of a microbatch, as with the callback `Microbatches`. With one microbatch a pipeline
    is model parallelism without overlap.

    Args:
        model: A Functional model, or a Sequential one that begins with an Input, built under a
            `mirrored_strategy` with `devices_per_replica`. Compiled now or later, without
            `jit_compile`.
        stages: Names of the layers at which stages begin, but for the first: S - 1 names, or V S -
            1 with virtual stages. Or S, the number of stages, which are then balanced: the slowest
            is as fast as possible, by the measured time of each layer, and within 5% of that the
            largest needs as little memory as possible. None is the same.
        microbatches: Of a replica batch, M. Positive; a multiple of S for "interleaved". Where a
            replica batch has fewer examples some are empty.
        virtual_stages: Runs of layers on each device, V. 1 unless `schedule` is "interleaved".
        schedule: "gpipe", "1f1b" or "interleaved".
        example: Inputs of a few rows, with which layers are measured. None makes zeros.
        timed: Whether each step notes when its passes begin and end, for `measured_bubble`. On
            CPUs: a GPU computes later than TensorFlow starts it.

    Attributes:
        model: The model.
        stage_names: By run of layers, the names of its operations.
        bubble: The part of a step that devices wait if all runs cost the same, from 0 to 1.

    Raises:
        ValueError: If an argument is invalid, or the model cannot be cut there.

    Example:
        >>> strategy = strategies.mirrored_strategy(1, devices_per_replica=2)
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, name="a"),
        ...                               keras.layers.Dense(1, name="b")])
        ...     model.compile("sgd", "mse")
        >>> pipeline = Pipeline(model, stages=["b"], microbatches=4, schedule="1f1b")
        >>> history = model.fit(rows, targets, verbose=0)
        >>> pipeline.stage_names
        (('a',), ('b',))
        >>> pipeline.bubble
        0.2

    Sources: Huang et al. 2019, "GPipe", arXiv:1811.06965. Narayanan et al. 2019, "PipeDream",
    arXiv:1806.03377. Narayanan et al. 2021, arXiv:2104.04473, section 2.2.
    """

    def __init__(
        self,
        model: keras.Model,
        stages: int | Sequence[str] | None = None,
        microbatches: int = 1,
        *,
        virtual_stages: int = 1,
        schedule: str = "gpipe",
        example: Any = None,
        timed: bool = False,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`model` must be a keras.Model. Received: model={model!r}. Pass the model that is "
                "to be trained."
            )
        refuse_model_outside(
            model, "Pipeline", "strategies.mirrored_strategy(devices_per_replica=2)"
        )
        if any(is_divided(layer) for layer in all_layers(model)):
            raise ValueError(
                "`model` must not be divided by tensor_parallel and a pipeline, which give the "
                f"devices of a replica different work. Received: {model.name!r}. Choose one of the "
                "two."
            )
        self.model = model
        self._schedule = one_of("schedule", schedule, SCHEDULES)
        self._microbatches = whole_number("microbatches", microbatches, cure="Count parts.")
        self._virtual = whole_number("virtual_stages", virtual_stages, cure="1 is one run each.")
        self._devices = devices_by_replica(model.distribute_strategy)[0]
        self._check(truth("timed", timed))
        count = len(self._devices) * self._virtual
        graph = graph_of(model)
        places = self._places(graph, stages, count, example)
        names = [node.operation.name for node in nodes_in_order(graph)]
        edges = [0, *places, len(names)]
        self.stage_names = tuple(tuple(names[edges[c] : edges[c + 1]]) for c in range(count))
        self.bubble = bubble_by_formula(len(self._devices), self._microbatches, self._virtual)
        self._pipeline = train_as_pipeline(
            model, places, self._microbatches, schedule, self._virtual, is_timed=timed
        )
        announce(
            f"{model.name!r} is a pipeline of {len(self._devices)} stages, "
            f"{self._microbatches} microbatches, {schedule}: stages begin at "
            f"{', '.join(repr(own[0]) for own in self.stage_names)}. A device waits for "
            f"{self.bubble:.0%} of a step if they cost the same."
        )

    def measured_bubble(self) -> float:
        """Returns the part of the newest step that the first replica's devices waited.

        From the beginning of its first pass to the end of its last one; reduce and update are not
        in it.

        Raises:
            ValueError: If steps are not timed, or none was taken.
        """
        begins, ends = self._measured_times()
        busy = sum(ends[unit] - begins[unit] for unit in begins)
        return 1 - busy / (max(ends.values()) * len(self._devices))

    def measured_passes(self) -> list[dict[str, Any]]:
        """Returns when each stage computed which microbatch in the newest step.

        `tfscale.report.Stages.of(pipeline)` shows them in a report.

        Returns:
            For each pass `stage`, `kind` ("forward" or "backward"), `microbatch`, `begin` and `end`
            in seconds from the first pass, and `run`, the stage's run of layers.

        Raises:
            ValueError: If steps are not timed, or none was taken.
        """
        begins, ends = self._measured_times()
        count = len(self._devices)
        return [
            {
                "stage": unit.chunk % count,
                "kind": "forward" if unit.is_forward else "backward",
                "microbatch": unit.microbatch,
                "begin": begins[unit],
                "end": ends[unit],
                "run": unit.chunk // count,
            }
            for unit in self._pipeline.units
        ]

    def report(self) -> str:
        """Returns the stages, the waiting time by formula and as measured, and a picture."""
        lines = []
        for c, names in enumerate(self.stage_names):
            shown = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
            weights = self._pipeline.chunks[c].weights
            size = sum(_bytes(weight) for weight in weights)
            device = self._devices[c % len(self._devices)].rpartition("device:")[2]
            lines.append(f"{device}: {shown}, {len(names)} operations, {size / 2**20:.3g} MiB")
        lines.append(f"waiting by formula: {self.bubble:.1%}")
        if self._pipeline.times is not None and self._pipeline.times.numpy().any():
            lines.append(f"waiting as measured: {self.measured_bubble():.1%}")
        ideal = timeline(self._orders(), _forward_half)
        return "\n".join([*lines, text_picture(ideal)])

    def picture(self, path: str | Path) -> None:
        """Writes an SVG of the newest step as measured, or as planned if steps are not timed.

        Args:
            path: Of the file, which is replaced, in a folder that exists.

        Raises:
            OSError: If it cannot be written. A file that was there is unchanged.
        """
        title = self.title
        if self._pipeline.times is not None and self._pipeline.times.numpy().any():
            begins, ends = self._measured_times()
            title += f", {self.measured_bubble():.1%} as measured"
        else:
            ideal = timeline(self._orders(), _forward_half)
            begins, ends = ideal.begins, ideal.ends
        write_whole(path, svg_picture(self._orders(), begins, ends, title))

    @property
    def title(self) -> str:
        """Schedule, microbatches and waiting time, for a picture."""
        parts = f"{self._schedule}, {self._microbatches} microbatches"
        return f"{parts}, waiting {self.bubble:.1%} by formula"

    def _check(self, is_timed: bool) -> None:
        devices, model = len(self._devices), self.model
        if devices == 1:
            raise ValueError(
                "`model` must be built under a strategy whose replicas have a device for each "
                "stage. Received: one device a replica. Build the strategy with "
                "strategies.mirrored_strategy(devices_per_replica=2)."
            )
        check_schedule(self._schedule, devices, self._microbatches, self._virtual)
        if is_timed and model.run_eagerly:
            raise ValueError(
                "`timed` must be False for a model that is run eagerly, whose stages do not "
                "overlap. Received: timed=True. Compile it without run_eagerly."
            )

    def _places(self, graph: Any, stages: Any, count: int, example: Any) -> list[int]:
        nodes = nodes_in_order(graph)
        reasons = places_to_cut(nodes)
        if isinstance(stages, (list, tuple)):
            return named_cut(nodes, reasons, sequence("stages", stages), count)
        cure = (
            f'Pass {len(self._devices)}, or a list of names such as ["{nodes[-1].operation.name}"].'
        )
        if stages is not None and whole_number("stages", stages, cure=cure) != len(self._devices):
            cure = f"Build the strategy with devices_per_replica={stages}." if stages > 1 else cure
            raise ValueError(
                f"`stages` must be {len(self._devices)}, the devices of a replica. Received: "
                f"stages={stages}. {cure}"
            )
        return balanced_cut(nodes, reasons, count, lambda: measured_costs(graph, example))

    def _orders(self) -> list[list[Unit]]:
        return device_orders(self._schedule, len(self._devices), self._microbatches, self._virtual)

    def _measured_times(self) -> tuple[dict[Unit, float], dict[Unit, float]]:
        times = self._pipeline.times
        if times is None or not times.numpy().any():
            raise ValueError(
                "`timed` must be True, and a step must have been taken, to know how long devices "
                "waited. Received: no times. Pass timed=True to Pipeline, and call fit."
            )
        rows = times.numpy() - times.numpy().min()
        units = self._pipeline.units
        return (
            {unit: float(row[0]) for unit, row in zip(units, rows, strict=True)},
            {unit: float(row[1]) for unit, row in zip(units, rows, strict=True)},
        )


def _bytes(weight: keras.Variable) -> int:
    return int(np.prod(weight.shape, dtype="int64")) * int(tf.as_dtype(weight.dtype).size)


def _forward_half(unit: Unit) -> int:
    """A backward pass takes about twice as long as a forward pass."""
    return 1 if unit.is_forward else 2
