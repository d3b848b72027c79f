"""A patch: one symbol of Keras or TensorFlow, replaced once per process by one that dispatches.

Outside of our strategies the replacement calls the original, so other models are not affected.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.patching.fingerprints import fingerprint


@dataclass(frozen=True)
class Patch:
    """A symbol of Keras or TensorFlow that this package replaces.

    Attributes:
        target: The symbol, as `"package.module:Class.attribute"` or `"package.module:name"`.
        accepted: Fingerprints of the sources that the replacement was written against.
        replacement: Takes the original, returns what replaces it.
    """

    target: str
    accepted: frozenset[str]
    replacement: Callable[[Any], Any]

    def original(self) -> Any:
        """Returns the upstream symbol, also while the patch is installed."""
        owner, name = self._owner()
        current = vars(owner)[name]
        return getattr(current, "__tfscale_original__", current)

    def is_installed(self) -> bool:
        """Tells whether Keras currently calls the replacement."""
        owner, name = self._owner()
        return hasattr(vars(owner)[name], "__tfscale_original__")

    def is_recognised(self) -> bool:
        """Tells whether the upstream source is one the replacement was written against."""
        return fingerprint(self.original()) in self.accepted

    def install(self) -> None:
        """Puts the replacement in place; a second call does nothing.

        Raises:
            RuntimeError: If the upstream source changed.
        """
        if self.is_installed():
            return
        original = self.original()
        if not self.is_recognised():
            raise RuntimeError(
                f"`{self.target}` of {self._library()} is not the code that tfscale's "
                f"fix was written against. Received: fingerprint={fingerprint(original)!r}, "
                f"known: {sorted(self.accepted)}. Install a Keras release that this tfscale "
                "supports (`pip install --upgrade tfscale` pins one), or build the strategy with "
                "tf.distribute and train without the fixes."
            )
        replacement = self.replacement(original)
        replacement.__tfscale_original__ = original
        owner, name = self._owner()
        setattr(owner, name, replacement)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Puts the replacement in place for as long as what is inside runs.

        Raises:
            RuntimeError: If the upstream source changed.
        """
        is_first = not self.is_installed()
        self.install()
        try:
            yield
        finally:
            if is_first:
                owner, name = self._owner()
                setattr(owner, name, self.original())

    def _library(self) -> str:
        if self.target.startswith("tensorflow."):
            return f"TensorFlow {tf.__version__}"
        return f"Keras {keras.__version__}"

    def _owner(self) -> tuple[Any, str]:
        module_name, _, path = self.target.partition(":")
        owner: Any = importlib.import_module(module_name)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        return owner, name
