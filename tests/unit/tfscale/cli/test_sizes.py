"""Sizes as text."""

from __future__ import annotations

import pytest

from tfscale.cli.sizes import parsed_bytes, shown_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16GiB", 16 * 2**30), ("80GB", 80 * 10**9), ("1.5KiB", 1536), ("7 B", 7), ("2kB", 2000)],
)
def test_units_of_1024_and_of_1000_are_read(text: str, expected: int) -> None:
    assert parsed_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["16", "GiB", "-1GiB", "16gib", "0GiB", "1e3GB", "", "nanGB", "٣GB"]
)
def test_other_sizes_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a positive size .* Example: 16GiB\."):
        parsed_bytes(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.50 KiB"),
        (10 * 2**20, "10.0 MiB"),
        (2**50, "1.00 PiB"),
    ],
)
def test_sizes_are_shown_with_three_digits(size: int, expected: str) -> None:
    assert shown_bytes(size) == expected
