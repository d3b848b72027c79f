from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from recipes.language.text import read_text


def written(folder: Path, count: int) -> str:
    for number in range(count):
        place = folder / f"part{number % 3}" / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(f"text {number}".encode())
    return f"{folder}/**/*.txt"


def test_whole_files_are_held_out_by_the_hash_of_their_names(tmp_path: Path) -> None:
    here = read_text(written(tmp_path / "here", 40), held_out=0.1, validation_bytes=1000)
    there = read_text(written(tmp_path / "there", 40), held_out=0.1, validation_bytes=1000)
    assert (here.train, here.validation) == (there.train, there.validation)
    assert (len(here.train), len(here.validation)) == (36, 4)
    assert not set(here.train) & set(here.validation)


def test_a_single_file_is_cut(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"0123456789")
    text = read_text(str(tmp_path / "one.txt"), held_out=0.2, validation_bytes=1000)
    assert (text.train, text.validation) == ([b"01234567"], [b"89"])


def test_validation_is_cut_to_its_bytes(tmp_path: Path) -> None:
    text = read_text(written(tmp_path, 40), held_out=0.5, validation_bytes=10)
    assert sum(map(len, text.validation)) == 10
    assert len(text.train) == 20


def test_the_default_is_the_standard_library_without_tests() -> None:
    text = read_text(None, held_out=0.05, validation_bytes=10_000)
    root = Path(sysconfig.get_paths()["stdlib"])
    everything = set(text.train)
    held_out = [(root / name).read_bytes() not in everything for name in ("os.py", "ast.py")]
    assert held_out == [False, False]
    assert sum(map(len, text.train)) > 5_000_000
    if (root / "test" / "test_os.py").exists():
        assert (root / "test" / "test_os.py").read_bytes() not in everything


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"matches nothing\. .*--text='books/\*\*/\*\.txt'"),
        (b"", "1 files of 0 bytes together"),
        (b"x", "1 files of 1 bytes together"),
    ],
)
def test_no_text_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"`--text` must be a pattern .*{message}"):
        read_text(f"{tmp_path}/*.txt", held_out=0.1, validation_bytes=10)


def test_a_folder_is_refused_with_the_pattern_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    with pytest.raises(ValueError, match="matches a folder") as refused:
        read_text(f"{tmp_path}/", held_out=0.1, validation_bytes=10)
    assert f"--text='{tmp_path}/**'" in str(refused.value)
    assert read_text(f"{tmp_path}/**", held_out=0.5, validation_bytes=10).train == [b"te"]
