"""The reference: the user's model trained on one device with stock Keras, and its control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tfscale.verify.batches import as_float64, num_rows, permuted, take_batches
from tfscale.verify.layers import precision_of
from tfscale.verify.messages import Reference, Request
from tfscale.verify.trial import Arrays, Trial, new_model, observe, reload
from tfscale.verify.user_model import UserModel, WrongUsage, first_sentence, in_one_line

CONTROL_SEED = 1


def train_reference(
    request: Request, user_model: UserModel, say: Callable[[str], None], folder: Path
) -> Reference:
    """Trains the user's model on one device: in float64 if possible, else as it is.

    Args:
        request: What is to be verified.
        user_model: The user's function.
        say: Called with each line of progress.
        folder: A folder for a file.

    Raises:
        WrongUsage: If the function's result cannot be verified, or its model does not train on one
            device.
    """
    defaults = keras.config.floatx(), keras.config.dtype_policy()
    trial = Trial(user_model, None, request.steps, request.precision != "as_is", request.seed, say)
    notes: list[str] = []
    try:
        return _train(request, trial, folder, notes)
    except Exception as error:
        if request.precision != "auto":
            raise _wrong(user_model, error) from error
        said = in_one_line(error)[:300]
        notes.append(f"does not run in float64 ({said}): compared in the precision of the function")
    say(notes[0])
    keras.config.set_floatx(defaults[0])
    keras.config.set_dtype_policy(defaults[1])
    try:
        return _train(request, replace(trial, is_float64=False), folder, notes)
    except Exception as error:
        raise _wrong(user_model, error) from error


def _train(request: Request, trial: Trial, folder: Path, notes: Sequence[str]) -> Reference:
    trial.say("one device: building")
    model, data, switched, drawing = new_model(trial, None, None)
    batches = take_batches(data, request.steps, request.batch_size)
    if trial.is_float64:
        batches = as_float64(batches)
    if model.steps_per_execution > 1:
        # Within an execution a collective between replicas has a fixed shape.
        batches = [batch for batch in batches if num_rows(batch) == num_rows(batches[0])]
        notes = [*notes, "steps_per_execution > 1: only batches of the first one's size are used"]
    if not model.built:
        model, _, switched, drawing = new_model(trial, None, batches[0])
    initial = [variable.numpy() for variable in model.weights]
    precision, coarsest = precision_of(model)
    say = trial.say
    one = replace(trial, say=lambda text: say(f"one device: {text}"))
    file = folder / "one_device.keras"
    found = observe(one, initial, batches, ordered=batches, save_to=file)
    if "file" not in found.missing:
        try:
            found.arrays |= reload(file, trial.user_model, batches)
        except Exception as error:
            said = first_sentence(error)
            found.missing["file"] = f"the file saved on one device does not load: {said}"
    again = replace(trial, say=lambda text: say(f"one device, rows permuted: {text}"))
    control = observe(
        again,
        initial,
        permuted(batches, CONTROL_SEED),
        ordered=batches,
        skip=frozenset(found.missing),
    )
    _use_floor_for_file(control.arrays)
    return Reference(
        arrays=found.arrays,
        control=control.arrays,
        missing=found.missing,
        initial=initial,
        batches=batches,
        precision=precision,
        is_float64=trial.is_float64,
        notes=[*notes, *_notes(trial, switched, drawing, precision, coarsest)],
    )


def _use_floor_for_file(control: Arrays) -> None:
    """Uses the floor of weights and predictions for those of the saved file too."""
    for name in list(control):
        group, _, rest = name.partition("/")
        if group in ("weights", "predictions"):
            control[f"file/{group}/{rest.partition(' ')[0]}"] = control[name]


def _notes(
    trial: Trial, switched: list[str], drawing: list[str], precision: str, coarsest: str
) -> list[str]:
    notes = []
    if switched:
        notes.append(
            "random layers off (rate 0), because replicas draw independently: "
            + ", ".join(dict.fromkeys(switched))
        )
    if drawing:
        notes.append(f"random layers without a rate stay on: {', '.join(drawing)}")
    if trial.is_float64 and precision != "float64":
        notes.append(f"layer {coarsest!r} computes in {precision} regardless of the default")
    return notes


def _wrong(user_model: UserModel, error: Exception) -> WrongUsage:
    if isinstance(error, WrongUsage):
        return error
    return WrongUsage(
        f"`{user_model.target}` must return a model that trains on one device. Received: "
        f"{in_one_line(error)[:300]}. Make it train in stock Keras first."
    )
