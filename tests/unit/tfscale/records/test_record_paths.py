from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfscale.records.paths import record_paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files a-0, a-1, a-10, a-2, b and [x], and one hidden; a-0 has an index."""
    for name in ("a-0", "a-0.tfindex", "a-1", "a-10", "a-2", "b", "[x]", ".a-hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a-folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("a-1", ["a-1"]),
        (Path("b"), ["b"]),
        ("a-*", ["a-0", "a-1", "a-10", "a-2"]),
        (["b", "a-?"], ["b", "a-0", "a-1", "a-2"]),
        ((path for path in (Path("b"), "a-0")), ["b", "a-0"]),
        ("[x]", ["[x]"]),
    ],
)
def test_files_are_in_the_order_of_their_names_or_of_the_list(
    folder: Path, files: Any, expected: list[str]
) -> None:
    assert record_paths(files) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "`files` must name at least one file"),
        ("c", r"Received: 'c', which matches none\. .* the current folder is /"),
        ("c*", "which matches none"),
        ("c[1]/*", r"Brackets are part of a pattern: write '\[' as '\[\[\]'"),
        (["a-*", "a-2"], r"Received: a-2 twice\. Remove"),
        (".", r"Received: '\.', a folder\. Pass a pattern"),
        ("gs://bucket/a", "must be local files"),
    ],
)
def test_what_names_no_file_is_refused_with_the_cure(
    folder: Path, files: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record_paths(files)
