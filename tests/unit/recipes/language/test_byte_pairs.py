from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.language import byte_pairs
from recipes.language.vocabulary import ByteVocabulary, decoded

TEXT = [Path(byte_pairs.__file__).read_bytes(), "Übergröße, 北京\r\n\tx".encode() * 3]
NEEDS_LIBRARY = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="needs tfscale[language]"
)


def arbitrary_bytes() -> list[bytes]:
    random = np.random.default_rng(0)
    return [random.bytes(1000), bytes(range(256)), b"", b"\0", b"\xff\xfe", *TEXT]


def test_bytes_come_back_from_bytes() -> None:
    vocabulary = ByteVocabulary()
    for document, tokens in zip(
        arbitrary_bytes(), vocabulary.encode(arbitrary_bytes()), strict=True
    ):
        assert decoded(vocabulary, tokens.tolist()) == document


@NEEDS_LIBRARY
def test_arbitrary_bytes_come_back_from_pairs() -> None:
    vocabulary = byte_pairs.trained(TEXT, 400)
    assert set(vocabulary.pieces) >= {bytes([byte]) for byte in range(256)}
    assert len(vocabulary.pieces) == 400
    assert vocabulary.name == "bpe of 400 tokens"
    for document, tokens in zip(
        arbitrary_bytes(), vocabulary.encode(arbitrary_bytes()), strict=True
    ):
        assert decoded(vocabulary, tokens.tolist()) == document
    assert 2 * len(vocabulary.encode(TEXT[:1])[0]) < len(TEXT[0])


@NEEDS_LIBRARY
def test_the_most_frequent_pair_is_the_first_token_learned() -> None:
    assert byte_pairs.trained([b"xyxyxyxy zx"], 257).pieces[256] == b"xy"


@NEEDS_LIBRARY
def test_the_file_is_used_for_the_same_text_and_size_only(tmp_path: Path) -> None:
    path = str(tmp_path / "vocabulary.json")

    def cached(documents: list[bytes], size: int) -> list[bytes]:
        return byte_pairs.cached(path, documents, size, is_writer=True).pieces

    first = cached(TEXT, 300)
    content: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    merges = content["tokenizer"]["model"]["merges"]
    assert len(merges) == 300 - 256
    # A file without the last token shows that it is read, not learned again.
    vocab = content["tokenizer"]["model"]["vocab"]
    merges.pop()
    del vocab[max(vocab, key=vocab.get)]
    Path(path).write_text(json.dumps(content), "utf-8")
    assert cached(TEXT, 300) == first[:-1]
    assert cached(TEXT[:1], 300) != first[:-1]
    assert len(cached(TEXT, 310)) == 310
    Path(path).write_text("{", "utf-8")
    assert cached(TEXT, 300) == first


def test_without_the_library_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find_spec(name) if name != "tokenizers" else None
    )
    with pytest.raises(ImportError, match=r'pip install "tfscale\[language\]"'):
        byte_pairs.trained(TEXT, 300)
