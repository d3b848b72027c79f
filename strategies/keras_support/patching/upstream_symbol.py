"""A symbol of Keras or TensorFlow that is compared with the sources it was written against."""

from __future__ import annotations

import abc
import ast
from collections.abc import Collection

from strategies.keras_support.patching.fingerprints import (
    Recognition,
    recognition,
    tree_fingerprint,
)


class UpstreamSymbol(abc.ABC):
    """What patches and private symbols have in common.

    Attributes:
        target: The symbol, as `"package.module:Class.attribute"` or `"package.module:name"`.
        accepted: Fingerprints of the sources that it was used with, and of a signature.
    """

    target: str
    accepted: Collection[str]

    @abc.abstractmethod
    def definitions(self) -> list[ast.Module]:
        """Returns its definition, and those that it overrides and calls.

        Raises:
            LookupError: If the installed release does not define it.
            OSError: If its source cannot be found.
        """

    @abc.abstractmethod
    def is_inherited(self) -> bool:
        """Tells whether the class that is named inherits it.

        Raises:
            LookupError: If the installed release does not define it.
        """

    def fingerprint(self) -> str:
        """Returns the fingerprint of the installed source.

        A method that calls the one it overrides is fingerprinted together with it.

        Raises:
            LookupError: If the installed release does not define it.
            OSError: If its source cannot be found.
        """
        return tree_fingerprint(*self.definitions())

    def recognition(self) -> Recognition:
        """Compares the installed source with those that are accepted."""
        try:
            is_inherited = self.is_inherited()
            return recognition(self.definitions(), self.accepted, is_inherited=is_inherited)
        except (LookupError, OSError, SyntaxError, TypeError):
            # The symbol is gone, or was replaced by something without source code.
            return Recognition.NONE

    def is_recognised(self) -> bool:
        """Tells whether the symbol may be used, or replaced."""
        return self.recognition() is not Recognition.NONE
