"""Inner layers of student and teacher whose outputs should be alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from strategies.extension import number, whole_number


@dataclass(frozen=True)
class FeaturePair:
    """A layer of the student that learns to give what a layer of a teacher gives.

        loss = weight * mean((projection(student's output) - teacher's output)^2)

    The projection is a Dense layer without bias, trained with the student and left out of it, if
    the two have different sizes on the last axis; without a difference there is none.

    Attributes:
        student: Name of a layer of the student.
        teacher: Name of a layer of the teacher.
        weight: Not negative, finite.
        teacher_index: Which of the teachers, from 0.

    Raises:
        ValueError: If `weight` or `teacher_index` is out of range.

    Source: Romero et al. 2015, "FitNets", arXiv:1412.6550, section 2.2.
    """

    student: str
    teacher: str
    weight: float = 1.0
    teacher_index: int = 0

    def __post_init__(self) -> None:
        rule, cure = "finite and not negative", "Leave it out for 1."
        number("weight", self.weight, rule, lambda value: value >= 0, cure=cure)
        cure = "Leave it out for the first teacher."
        whole_number("teacher_index", self.teacher_index, at_least=0, cure=cure)


def with_features(model: keras.Model, names: Sequence[str], argument: str) -> keras.Model:
    """Returns a model of the same layers that gives its output and those of named layers.

    Args:
        model: A functional or Sequential model of one output.
        names: Names of layers, each called once.
        argument: What the model is, for errors.

    Returns:
        A model to a list: the output, and the named layers' outputs.

    Raises:
        ValueError: If the model has no such layer, or more or less than one output.
    """
    if len(getattr(model, "outputs", None) or ()) != 1:
        raise ValueError(
            f"`{argument}` must be a functional or Sequential model with one output. Received: "
            f"{model!r}. Make a keras.Model of its inputs and one output."
        )
    known = {layer.name: layer for layer in model.layers}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"`features` must name layers of the {argument}. Received: {missing[0]!r}. It has: "
            f"{', '.join(known)}."
        )
    outputs = [model.outputs[0], *(known[name].output for name in names)]
    structure = model.inputs if isinstance(model, keras.Sequential) else model.input
    return keras.Model(structure, outputs, name=f"{model.name}_with_features")


def projection(student: Any, teacher: Any, name: str) -> keras.Layer | None:
    """Returns the layer between two outputs, or None if they have one size.

    Args:
        student: Symbolic output of the student's layer.
        teacher: That of the teacher's layer.
        name: Of the new layer.

    Raises:
        ValueError: If they differ in another axis than the last.
    """
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    if len(ours) != len(theirs) or ours[1:-1] != theirs[1:-1]:
        raise ValueError(
            "`features` must pair layers whose outputs differ in the last axis only. Received: "
            f"shapes {ours} of the student and {theirs} of the teacher. Pair other layers."
        )
    if ours[-1] == theirs[-1]:
        return None
    layer = keras.layers.Dense(theirs[-1], use_bias=False, name=name)
    layer.build(ours)
    return layer
