"""The user's model over several devices of each replica: in stages, or with divided matrices."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KINDS = ("pipeline", "tensor")
MICROBATCHES = 4
_SCHEDULE = "1f1b"
_LATER_PART = re.compile(r"_part[1-9]\d*of\d+")


@dataclass(frozen=True)
class Parallel:
    """How a model is computed by the devices of a replica.

    Attributes:
        kind: "pipeline": each device has some layers. "tensor": each has parts of matrices.
        devices: Of a replica. At least 2.
        microbatches: Of a pipeline. Positive.
        rules: `"module:name"` of the rules of tensor parallelism, or None for those of the
            language recipe's model.
    """

    kind: str
    devices: int
    microbatches: int = 1
    rules: str | None = None

    def __str__(self) -> str:
        if self.kind == "tensor":
            return f"matrices over {self.devices} devices"
        return f"{self.devices} stages, {self.microbatches} microbatches"


def parallel(text: str) -> Parallel:
    """Returns what the value of `--parallel` means.

    Raises:
        argparse.ArgumentTypeError: If it is something else.

    Example:
        >>> parallel("tensor:2").devices
        2
    """
    kind, _, devices = text.partition(":")
    if kind not in KINDS or not re.fullmatch(r"[2-9]|[1-9]\d{1,3}", devices):
        raise argparse.ArgumentTypeError(
            f"must be pipeline:N or tensor:N, with N devices for each replica, at least 2. "
            f"Received: {text!r}. Example: pipeline:2"
        )
    return Parallel(kind, int(devices))


def arrange(model: Any, how: Parallel) -> None:
    """Puts a compiled model, made under a strategy, on the devices of its replicas.

    Raises:
        ValueError: If it cannot be.
        WrongUsage: If the rules are not a list of `TensorRule`.
    """
    from tfscale.parallel import TRANSFORMER, Pipeline, tensor_parallel

    if how.kind == "pipeline":
        Pipeline(model, how.devices, how.microbatches, schedule=_SCHEDULE)
    else:
        tensor_parallel(model, TRANSFORMER if how.rules is None else rules_of(how.rules))


@contextlib.contextmanager
def whole_variables(model: Any, how: Parallel | None) -> Iterator[None]:
    """Lets a model list the variables that it has on one device."""
    if how is None or how.kind != "tensor":
        yield
        return
    from strategies.extension import all_layers, whole_weights

    with whole_weights(all_layers(model)):
        yield


def trained_by(optimizer: Any, model: Any, how: Parallel | None) -> list[Any]:
    """Returns the variables that an optimizer has slots for, as on one device.

    Args:
        optimizer: A built one.
        model: Its model; called inside of `whole_variables`.
        how: How the model was arranged, or None.
    """
    from strategies.extension import optimized_variables

    if how is None or how.kind != "tensor":
        return optimized_variables(optimizer)
    return list(model.trainable_variables)


def state_of(optimizer: Any, model: Any, how: Parallel | None) -> list[tuple[str, Any]]:
    """Returns paths and values of a built optimizer's variables, as on one device.

    Args:
        optimizer: A built one.
        model: Its model.
        how: How the model was arranged, or None.
    """
    if how is None or how.kind != "tensor":
        return [(variable.path, variable.numpy()) for variable in optimizer.variables]
    from tfscale.parallel.tensor_slots import joined_state

    # A slot of a part is named after it: front_kernel_part0of2_velocity.
    paths = [variable.path for variable in optimizer.variables]
    whole = [re.sub(r"_part0of\d+", "", path) for path in paths if not _LATER_PART.search(path)]
    return list(zip(whole, joined_state(model, optimizer), strict=True))


def rules_of(target: str) -> Any:
    """Returns the rules that `"module:name"` names.

    Raises:
        WrongUsage: If it names something else.
    """
    from tfscale.parallel import TensorRule
    from tfscale.verify.user_model import WrongUsage, imported_module

    name, _, attribute = target.partition(":")
    rules = getattr(imported_module(name), attribute, None)
    if not isinstance(rules, (list, tuple)) or not all(isinstance(r, TensorRule) for r in rules):
        raise WrongUsage(
            "`--tensor_rules` must name a list of tfscale.parallel.TensorRule in a module. "
            f"Received: {target!r}, which is {rules!r}. Example: mine:RULES"
        )
    return rules
