"""What a token is: a byte, or a piece of text that a byte-pair encoding has learned."""

from __future__ import annotations

from typing import Protocol

import numpy as np

START = b"\0"
"""The token with these bytes begins every document; it is never predicted. So bytes need no 257th
token."""


class Vocabulary(Protocol):
    """Turns bytes into tokens and back.

    Attributes:
        name: Its kind and size, for reports.
        pieces: The bytes of each token.
    """

    @property
    def name(self) -> str:
        """Its kind and size, for reports."""

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each token."""

    def encode(self, documents: list[bytes]) -> list[np.ndarray]:
        """Returns the tokens of each document, integers [n]."""


class ByteVocabulary:
    """A token is a byte.

    Attributes:
        name: "bytes".
        pieces: All bytes.
    """

    name = "bytes"

    def __init__(self) -> None:
        self.pieces = [bytes([byte]) for byte in range(256)]

    def encode(self, documents: list[bytes]) -> list[np.ndarray]:
        """Returns the tokens of each document, uint8 [n]."""
        return [np.frombuffer(document, np.uint8) for document in documents]


def decoded(vocabulary: Vocabulary, tokens: list[int]) -> bytes:
    """Returns the bytes of tokens: `encode` backwards.

    Example:
        >>> decoded(ByteVocabulary(), [104, 105])
        b'hi'
    """
    return b"".join(vocabulary.pieces[token] for token in tokens)
