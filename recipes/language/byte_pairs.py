"""A vocabulary learned from text by byte-pair encoding, with the library `tokenizers`.

The library works on characters. Each byte is passed as the character with its number, so every byte
has a token, and any bytes can be encoded: text needs no encoding.

Source: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from typing import Any

import numpy as np
import tensorflow as tf

_AS_CHARACTERS = "latin-1"
# Merges stay within a word with the space before it, up to three digits, punctuation, or space;
# bytes of other alphabets count as letters. After GPT-2's, for bytes and with indented lines.
_PIECES = (
    r" ?[A-Za-z_\x{80}-\x{FF}]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9_\x{80}-\x{FF}]+"
    r"|[\r\n]+ *|\s+(?!\S)|\s+"
)
_FORMAT = 1


class BytePairs:
    """A byte-pair encoding.

    Attributes:
        name: "bpe" and its number of tokens.
        pieces: The bytes of each token.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Wraps a tokenizer whose characters are bytes, of `trained`."""
        self._tokenizer = tokenizer
        texts = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        self.pieces = [text.encode(_AS_CHARACTERS) for text, _ in texts]
        self.name = f"bpe of {len(self.pieces)} tokens"

    def encode(self, documents: list[bytes]) -> list[np.ndarray]:
        """Returns the tokens of each document, int32 [n]."""
        texts = [document.decode(_AS_CHARACTERS) for document in documents]
        return [np.array(found.ids, np.int32) for found in self._tokenizer.encode_batch(texts)]


def trained(documents: list[bytes], size: int) -> BytePairs:
    """Learns a vocabulary.

    Args:
        documents: The text to learn from.
        size: Tokens. At least 256. Fewer are learned if the text has too few pairs.

    Raises:
        ImportError: If the library is not installed.
    """
    tokenizers = _library()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=[chr(byte) for byte in range(256)],
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator((text.decode(_AS_CHARACTERS) for text in documents), trainer)
    return BytePairs(tokenizer)


def cached(path: str, documents: list[bytes], size: int, *, is_writer: bool) -> BytePairs:
    """Returns the vocabulary that a file has for these documents, or learns it and writes the file.

    Args:
        path: A JSON file.
        documents: The text to learn from.
        size: See `trained`.
        is_writer: Whether to write the file, which one worker should do.

    Raises:
        ImportError: If the library is not installed.
    """
    tokenizers = _library()
    digest = hashlib.sha256(_PIECES.encode())
    for document in documents:
        digest.update(hashlib.sha256(document).digest())
    key = {"format": _FORMAT, "size": size, "learned_from": digest.hexdigest()}
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            content = _parsed(file.read())
        if content.get("key") == key:
            return BytePairs(tokenizers.Tokenizer.from_str(json.dumps(content["tokenizer"])))
    vocabulary = trained(documents, size)
    if is_writer:
        content = {"key": key, "tokenizer": json.loads(vocabulary._tokenizer.to_str())}
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(json.dumps(content))
    return vocabulary


def _parsed(text: str) -> dict[str, Any]:
    """Returns the object of a JSON text, or an empty one if it is damaged."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _library() -> Any:
    if importlib.util.find_spec("tokenizers") is None:
        raise ImportError(
            "`--vocabulary=bpe` needs the package tokenizers, which is not installed. Install it: "
            'pip install "tfscale[language]", or use --vocabulary=bytes.'
        )
    import tokenizers

    return tokenizers
