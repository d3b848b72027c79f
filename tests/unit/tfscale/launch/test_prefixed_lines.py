from __future__ import annotations

import pytest

from tfscale.launch.output import LONGEST_LINE, PrefixedLines


def everything(*chunks: bytes, seconds_apart: float = 0.0) -> bytes:
    lines = PrefixedLines(b"> ", now=0.0, progress_seconds=5.0)
    shown = b"".join(lines.feed(chunk, now=i * seconds_apart) for i, chunk in enumerate(chunks))
    return shown + lines.finish()


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        pytest.param([], b"", id="nothing"),
        pytest.param([b"a\nb\n"], b"> a\n> b\n", id="two lines at once"),
        pytest.param([b"a", b"b\nc", b"\n"], b"> ab\n> c\n", id="lines in pieces"),
        pytest.param([b"a"], b"> a\n", id="no newline at the end"),
        pytest.param([b"\n\na\n"], b"> \n> \n> a\n", id="empty lines stay"),
        pytest.param([b"\xff\xfe\x00\xc3\n"], b"> \xff\xfe\x00\xc3\n", id="not UTF-8"),
        pytest.param([b"a\r\nb\r", b"\n"], b"> a\n> b\n", id="newlines of Windows"),
        pytest.param([b"1/2\r2/2\n"], b"> 2/2\n", id="overwritten"),
        pytest.param([b"1/2\r2/2\r\n"], b"> 2/2\n", id="overwritten by nothing"),
        pytest.param([b"1/2\r2/2\r"], b"> 2/2\n", id="overwritten, no newline"),
        pytest.param([b"  a  \n"], b">   a  \n", id="spaces of a plain line stay"),
    ],
)
def test_lines_are_whole_and_prefixed(chunks: list[bytes], shown: bytes) -> None:
    assert everything(*chunks) == shown


def test_pieces_do_not_matter() -> None:
    text = b"one\rtwo\b\b\b\r\nthree\n\n\xff\rfour\r\n\rfive"
    whole = everything(text)
    for size in range(1, len(text)):
        assert everything(*[text[i : i + size] for i in range(0, len(text), size)]) == whole


def test_a_keras_bar_shows_as_its_last_state() -> None:
    # What keras.utils.Progbar of Keras 3.15 writes: it walks back over the bar by backspaces,
    # returns, and pads a bar that became shorter.
    bar = b"\x1b[1m1/3\x1b[0m --- \x1b[1m8s\x1b[0m 4s/step"
    last = b"\x1b[1m3/3\x1b[0m --- \x1b[1m0s\x1b[0m 9ms/step - loss: 0.1"
    text = b"Epoch 1/1\n\r" + bar + b"\b" * 17 + b"\r" + bar + b"\b" * 17 + b"\r" + last + b"   \n"
    assert everything(text) == b"> Epoch 1/1\n> " + last + b"\n"


def test_a_bar_that_lasts_is_shown_now_and_then() -> None:
    updates = [b"\r%d/30" % i for i in range(1, 31)]
    shown = everything(*updates, b"\n", seconds_apart=1.0)
    # At 5 s the sixth update comes: the fifth is the last that is surely whole.
    assert shown == b"> 5/30\n> 10/30\n> 15/30\n> 20/30\n> 25/30\n> 30/30\n"


def test_a_bar_that_never_ends_its_line_does_not_fill_the_memory() -> None:
    lines = PrefixedLines(b"> ", now=0.0)
    for _ in range(100):
        lines.feed(b"\r" + b"#" * 100_000, now=0.0)
    assert lines.finish() == b"> " + b"#" * 100_000 + b"\n"


def test_a_line_without_end_is_cut_and_nothing_is_lost() -> None:
    chunks = [b"x" * 60_000] * 50
    shown = everything(*chunks).splitlines()
    assert sum(len(line) - len(b"> ") for line in shown) == 3_000_000
    assert max(len(line) for line in shown) <= LONGEST_LINE + 60_000 + 2
    assert len(shown) == 3
