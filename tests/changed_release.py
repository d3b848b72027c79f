"""Simulates a release of Keras or TensorFlow in which symbols are not those that are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from strategies.keras_support import installation
from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS

UNKNOWN = frozenset({"0" * 12})


def change(needs: Collection[Need]) -> None:
    """Lets all symbols of some needs look changed. Call it before a strategy is built."""
    for table in ("PATCHES", "KERAS_SYMBOLS", "TENSORFLOW_SYMBOLS"):
        changed = (
            dataclasses.replace(each, accepted=UNKNOWN) if each.need in needs else each
            for each in getattr(installation, table)
        )
        setattr(installation, table, tuple(changed))


def symbols(need: Need) -> list[str]:
    """Returns the symbols of a need, in the order in which a refusal names them."""
    replaced = [patch.target for patch in PATCHES if patch.need is need]
    private = (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS)
    return [*replaced, *(symbol.target for symbol in private if symbol.need is need)]


def refusal_of(use: Callable[[], Any]) -> str | None:
    """Returns the message with which a use is refused, or None if it works."""
    try:
        use()
    except RuntimeError as error:
        return str(error)
    return None
