"""Keras's own code again where a patch is installed, for a test that must then fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from strategies.keras_support.patching.patch import INSTALLED, Patch
from strategies.keras_support.patching.upstream import defining_owner


@contextlib.contextmanager
def without(patches: tuple[Patch, ...]) -> Iterator[None]:
    """Puts Keras's own code back where the patches are."""
    places = [(patch, *defining_owner(patch.target)) for patch in patches]
    originals = {patch: INSTALLED.pop(patch) for patch in patches}
    installed = [vars(owner)[name] for _, owner, name in places]
    for patch, owner, name in places:
        setattr(owner, name, patch.original())
    try:
        yield
    finally:
        for (_, owner, name), replacement in zip(places, installed, strict=True):
            setattr(owner, name, replacement)
        INSTALLED.update(originals)
