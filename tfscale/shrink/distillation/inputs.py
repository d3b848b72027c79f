"""What teachers read beside what the student reads: each gets the student's batch."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras

_INTEGER, _FLOAT, _BOOL = "integer", "float", "bool"
_EXACT = ((_INTEGER, _FLOAT), (_BOOL, _INTEGER), (_BOOL, _FLOAT))
"""What Keras casts without loss."""


def check_inputs(student: keras.Model, teachers: Sequence[keras.Model]) -> None:
    """Checks that each teacher can be given the inputs of the student.

    An axis of either may be of any size. Keras itself adds or removes a last axis of 1, makes
    floats of integers, and finds the inputs of a list by their names in a dictionary.

    Args:
        student: A functional or Sequential model.
        teachers: Others.

    Raises:
        ValueError: If one has other inputs: another structure, rank, width or kind of numbers.
    """
    ours = _structure(student)
    identifiers = _identifiers(student)
    for teacher in teachers:
        theirs = _structure(teacher)
        pairs = _pairs(ours, theirs)
        if pairs is None or not all(_fits(*pair, identifiers) for pair in pairs):
            raise ValueError(
                "`teachers` must read the inputs of the student, of its shapes and types. "
                f"Received: teacher {teacher.name!r} with {_text(theirs)}, student "
                f"{student.name!r} with {_text(ours)}. Pass "
                "keras.Model(inputs, teacher(change(inputs))) with inputs like the student's, and "
                "what the teacher needs as `change`."
            )


def _structure(model: Any) -> Any:
    """Returns the symbolic inputs as the model takes them; one is always a tuple."""
    given = model.inputs if isinstance(model, keras.Sequential) else model.input
    given = keras.tree.lists_to_tuples(given)
    return given if keras.tree.is_nested(given) else (given,)


def _pairs(ours: Any, theirs: Any) -> list[tuple[Any, Any]] | None:
    """Returns the inputs of the student with those of the teacher, or None if none fit."""
    if isinstance(ours, dict) and not isinstance(theirs, dict):
        by_name = {each.name: each for each in keras.tree.flatten(theirs)}
        if not by_name.keys() <= ours.keys():
            return None
        return [(ours[name], each) for name, each in by_name.items()]
    try:
        keras.tree.assert_same_structure(ours, theirs)
    except (TypeError, ValueError):
        return None
    return list(zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True))


def _identifiers(student: Any) -> set[int]:
    """Returns the ids of inputs that an embedding reads: integers, whatever type is declared.

    Keras declares floats where none is named, as for a Sequential model that begins with one.
    """
    found = set()
    for layer in student.layers:
        if isinstance(layer, keras.layers.Embedding):
            with contextlib.suppress(AttributeError, ValueError):  # it is called in several places
                found.add(id(layer.input))
    return found & {id(each) for each in student.inputs}


def _fits(ours: Any, theirs: Any, identifiers: set[int]) -> bool:
    kinds = _kind(ours), _kind(theirs)
    if id(ours) in identifiers:
        kinds = _INTEGER, kinds[1]
    if kinds[0] != kinds[1] and kinds not in _EXACT:
        return False
    mine, wanted = tuple(ours.shape)[1:], tuple(theirs.shape)[1:]  # a batch is of any size
    if len(mine) == len(wanted) + 1 and mine[-1] == 1:
        mine = mine[:-1]
    elif len(mine) == len(wanted) - 1 and wanted[-1] == 1:
        wanted = wanted[:-1]
    same_rank = len(mine) == len(wanted)
    return same_rank and all(a == b or None in (a, b) for a, b in zip(mine, wanted, strict=False))


def _kind(tensor: Any) -> str:
    if keras.backend.is_float_dtype(tensor.dtype):
        return _FLOAT
    return _INTEGER if keras.backend.is_int_dtype(tensor.dtype) else str(tensor.dtype)


def _text(structure: Any) -> str:
    """Returns shapes and types: "(None, 6) float32", or several with their places or names."""
    found = keras.tree.flatten_with_path(structure)
    texts = [f"{tuple(each.shape)} {each.dtype}" for _, each in found]
    if len(found) == 1 and not isinstance(structure, dict):
        return texts[0]
    places = [".".join(map(str, path)) for path, _ in found]
    kind = "a dictionary of " if isinstance(structure, dict) else ""
    return kind + ", ".join(f"{p}: {t}" for p, t in zip(places, texts, strict=True))
