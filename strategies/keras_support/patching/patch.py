"""A patch: one symbol of Keras or TensorFlow, replaced once per process by one that dispatches.

Outside of our strategies the replacement calls the original, so other models are not affected.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from strategies.keras_support.patching.fingerprints import calls_overridden, source_tree
from strategies.keras_support.patching.needs import Need, refusal, refused
from strategies.keras_support.patching.upstream import (
    defining_owner,
    lineage,
    named_owner,
    rebind,
)
from strategies.keras_support.patching.upstream_symbol import UpstreamSymbol


@dataclass(frozen=True)
class Patch(UpstreamSymbol):
    """A symbol of Keras or TensorFlow that this package replaces.

    Attributes:
        target: The symbol, as `"package.module:Class.attribute"` or `"package.module:name"`. A
            class is named by its public name; it may inherit the attribute. See `upstream`.
        accepted: Fingerprints of the sources that the replacement was written against, and of a
            signature if it depends on nothing else.
        replacement: Takes the original, returns what replaces it.
        need: What is refused if the symbol changed.
        is_used: Receives the arguments of a call of the symbol, and tells whether that call needs
            the replacement. None if each does. Only asked while `need` is refused.
    """

    target: str
    accepted: frozenset[str]
    replacement: Callable[[Any], Any]
    need: Need = Need.TRAINING
    is_used: Callable[..., bool] | None = None

    def original(self) -> Any:
        """Returns the upstream symbol, also while the patch is installed.

        Raises:
            LookupError: If the installed release does not define it.
        """
        owner, name = defining_owner(self.target)
        return _unpatched(vars(owner)[name])

    def definitions(self) -> list[ast.Module]:
        """Returns what is defined at run time, without patches: see `UpstreamSymbol`."""
        owner, name = defining_owner(self.target)
        trees = []
        for each in lineage(owner):
            if name in vars(each):
                trees.append(source_tree(_unpatched(vars(each)[name])))
                if not calls_overridden(trees[-1], name):
                    break
        return trees

    def is_inherited(self) -> bool:
        """Tells whether the class that is named inherits it: see `UpstreamSymbol`."""
        return defining_owner(self.target) != named_owner(self.target)

    def can_refuse(self) -> bool:
        """Tells whether the installed release defines the symbol, as a function or method."""
        try:
            return isinstance(self.original(), FunctionType)
        except LookupError:
            return False

    def is_installed(self) -> bool:
        """Tells whether Keras currently calls the replacement."""
        owner, name = defining_owner(self.target)
        current = vars(owner)[name]
        return hasattr(current, "__tfscale_original__") and not hasattr(current, _REFUSES)

    def install(self) -> None:
        """Puts the replacement in place; a second call does nothing.

        Raises:
            RuntimeError: If the upstream source changed, or is gone.
        """
        if self.is_installed():
            return
        if not self.is_recognised():
            raise RuntimeError(refusal(self.need, [self.target]))
        self.install_recognised()

    def install_recognised(self) -> None:
        """Puts the replacement in place of a symbol that was found to be recognised."""
        if not self.is_installed():
            original = self.original()
            _bind(*defining_owner(self.target), original, self.replacement(original))
            INSTALLED[self] = original

    def refuse(self) -> None:
        """Makes calls of the symbol raise where they need the replacement; see `needs.refused`.

        Does nothing if `can_refuse` is false. A method that its class inherits is replaced in that
        class only: what else inherits it has other needs.
        """
        if self.can_refuse():
            original = self.original()
            refusing = refused(self.need, original, self.is_used)
            setattr(refusing, _REFUSES, True)
            _bind(*named_owner(self.target), original, refusing)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Puts the replacement in place for as long as what is inside runs.

        Raises:
            RuntimeError: If the upstream source changed, or is gone.
        """
        is_first = not self.is_installed()
        self.install()
        try:
            yield
        finally:
            if is_first:
                owner, name = defining_owner(self.target)
                rebind(owner, name, INSTALLED.pop(self))


INSTALLED: dict[Patch, Any] = {}
"""The installed patches, with what they replaced."""


def require_not_undone() -> None:
    """Checks that no other library has put back what a patch replaced.

    One that wraps Keras's methods may save them before the first strategy is built, and restore
    them later. Models would then train without the fix.

    Raises:
        RuntimeError: If one has.
    """
    undone = []
    for patch, original in INSTALLED.items():
        owner, name = defining_owner(patch.target)
        if vars(owner)[name] is original:
            undone.append(patch.target)
    if undone:
        raise RuntimeError(
            f"{', '.join(undone)} must stay as tfscale has patched it. Received: Keras's own "
            "again, probably restored by a library that wraps Keras. Let it wrap and restore "
            "before the first strategy is built, or not at all."
        )


_REFUSES = "__tfscale_refuses__"


def _unpatched(value: Any) -> Any:
    return getattr(value, "__tfscale_original__", value)


def _bind(owner: Any, name: str, original: Any, replacement: Any) -> None:
    replacement.__tfscale_original__ = original
    rebind(owner, name, replacement)
