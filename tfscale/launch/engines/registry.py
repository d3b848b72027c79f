"""The engines by name, and where each is."""

from __future__ import annotations

import importlib
from typing import cast

from tfscale.launch.engines.engine import Engine

ENGINES = {
    "local": "tfscale.launch.engines.local:Local",
}
"""Module and class of each value of `--engine`, imported when it is used."""


def engine_named(name: str) -> Engine:
    """Returns an engine.

    Args:
        name: A value of `--engine`.

    Raises:
        ValueError: If there is no such engine.

    Example:
        >>> engine_named("local").name
        'local'
    """
    if name not in ENGINES:
        raise ValueError(
            f"`engine` must be one of {', '.join(ENGINES)}. Received: engine={name!r}. "
            "`tfscale launch --help` describes them."
        )
    module, _, kind = ENGINES[name].partition(":")
    return cast(Engine, getattr(importlib.import_module(module), kind)())
