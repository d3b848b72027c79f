"""Arguments of fit, evaluate and predict that must be the same on all workers.

With several workers each process calls `fit` separately. If one passes another number of epochs, or
validation data that the others do not have, they would wait for each other. So workers exchange the
arguments at the beginning of a call, and the first difference is refused by name.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.coordination.rendezvous import error_on_all_workers

_COMPARED = frozenset(
    {
        "epochs",
        "initial_epoch",
        "steps_per_epoch",
        "batch_size",
        "validation_split",
        "validation_steps",
        "validation_batch_size",
        "validation_freq",
        "class_weight",
        "shuffle",
        "steps",
    }
)
_GIVEN_OR_NOT = frozenset({"validation_data", "sample_weight", "y"})
_CURES = {
    "validation_data": "Pass the whole validation data on every worker: each evaluates its part.",
    "batch_size": "Pass the global batch size on every worker: each takes its part of every batch.",
    "callbacks": "Pass these on every worker, because workers wait for each other in them.",
    "steps_per_execution": "Compile the model with the same arguments on every worker.",
}


def call_arguments(model: Any, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Returns the arguments of a call as JSON.

    Args:
        model: Under a strategy of several workers.
        call: `fit`, `evaluate` or `predict`.
        args: What it was called with, without the model.
        kwargs: And by name.
    """
    try:
        given = inspect.signature(call).bind(model, *args, **kwargs)
    except TypeError:
        return "{}"  # the call itself will say what is wrong
    given.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, value in given.arguments.items():
        if name in _COMPARED:
            arguments[name] = _plain(value)
        elif name in _GIVEN_OR_NOT:
            arguments[name] = "None" if value is None else "given"
        elif name == "callbacks" and call.__name__ == "fit":
            arguments[name] = sorted(_meeting_callbacks(value))
    arguments["steps_per_execution"] = _plain(getattr(model, "steps_per_execution", 1))
    return json.dumps(arguments)


def refuse_other_arguments(answers: list[str]) -> None:
    """Checks that all workers pass the same.

    Args:
        answers: What `call_arguments` returned on each worker.

    Raises:
        ValueError: If an argument differs; the first one is named.
    """
    calls = [json.loads(answer) for answer in answers]
    for name in dict.fromkeys(name for call in calls for name in call):
        values = [call.get(name) for call in calls]
        if any(value != values[0] for value in values):
            cure = _CURES.get(name, f"Pass the same `{name}` on every worker.")
            raise error_on_all_workers(
                f"`{name}` must be the same on every worker. Received: {by_worker(values)}. {cure}"
            )


def by_worker(values: list[Any]) -> str:
    """Lists the values of all workers in one text.

    Example:
        >>> by_worker([2, 3])
        'worker 0: 2; worker 1: 3'
    """
    return "; ".join(f"worker {index}: {value}" for index, value in enumerate(values))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (np.generic, np.ndarray, tf.Tensor)):
        return np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _meeting_callbacks(callbacks: Any) -> Iterator[str]:
    """Yields the names of callbacks in which workers wait for each other."""
    listed = getattr(callbacks, "callbacks", callbacks) or ()
    for callback in listed if isinstance(listed, (list, tuple)) else [listed]:
        if getattr(callback, "needs_every_worker", False):
            yield type(callback).__name__
