"""One device's training of a subject, by stock Keras, and its control: what all is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tfscale.verify.batches import as_float64, num_rows, permuted
from tfscale.verify.data import take_batches
from tfscale.verify.layers import precision_of
from tfscale.verify.messages import Reference, Request
from tfscale.verify.model import Trial, new_model
from tfscale.verify.trial import Arrays, observe, reload
from tfscale.verify.user_model import Subject, WrongUsage, first_sentence, in_one_line

CONTROL_SEED = 1


def train_reference(
    request: Request, subject: Subject, say: Callable[[str], None], folder: Path
) -> Reference:
    """Trains a subject on one device: in float64 where it can, else as the function makes it.

    Args:
        request: What is to be verified.
        subject: The user's function.
        say: Told what is going on.
        folder: Where a file may be written.

    Raises:
        WrongUsage: If the function returns what cannot be verified, or its model does not train on
            one device.
    """
    defaults = keras.config.floatx(), keras.config.dtype_policy()
    trial = Trial(subject, None, request.steps, request.precision != "as_is", request.seed, say)
    notes: list[str] = []
    try:
        return _train(request, trial, folder, notes)
    except Exception as error:
        if request.precision != "auto":
            raise _wrong(subject, error) from error
        said = in_one_line(error)[:300]
        notes.append(f"does not run in float64 ({said}): compared as the function makes it")
    say(notes[0])
    keras.config.set_floatx(defaults[0])
    keras.config.set_dtype_policy(defaults[1])
    try:
        return _train(request, replace(trial, is_float64=False), folder, notes)
    except Exception as error:
        raise _wrong(subject, error) from error


def _train(request: Request, trial: Trial, folder: Path, notes: Sequence[str]) -> Reference:
    trial.say("one device: building")
    model, data, switched, drawing = new_model(trial, None, None)
    batches = take_batches(data, request.steps, request.batch_size)
    if trial.is_float64:
        batches = as_float64(batches)
    if model.steps_per_execution > 1:
        # Between replicas a collective keeps its shape in an execution.
        batches = [batch for batch in batches if num_rows(batch) == num_rows(batches[0])]
        notes = [*notes, "steps_per_execution > 1: only batches as large as the first are taken"]
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
            found.arrays |= reload(file, trial.subject, batches)
        except Exception as error:
            said = first_sentence(error)
            found.missing["file"] = f"one device's own file does not load: {said}"
    again = replace(trial, say=lambda text: say(f"one device, rows permuted: {text}"))
    control = observe(
        again,
        initial,
        permuted(batches, CONTROL_SEED),
        ordered=batches,
        skip=frozenset(found.missing),
    )
    _lend_floor(control.arrays)
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


def _lend_floor(control: Arrays) -> None:
    """Lets the file's weights and predictions have the floor of those in memory."""
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
            "random layers off (rate 0), for replicas draw independently: "
            + ", ".join(dict.fromkeys(switched))
        )
    if drawing:
        notes.append(f"random layers without a rate stay on: {', '.join(drawing)}")
    if trial.is_float64 and precision != "float64":
        notes.append(f"layer {coarsest!r} computes in {precision} whatever the default")
    return notes


def _wrong(subject: Subject, error: Exception) -> WrongUsage:
    if isinstance(error, WrongUsage):
        return error
    return WrongUsage(
        f"`{subject.target}` must return a model that trains on one device. Received: "
        f"{in_one_line(error)[:300]}. Make it run in plain Keras first."
    )
