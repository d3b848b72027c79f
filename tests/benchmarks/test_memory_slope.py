"""The slope of memory is that of a line fitted by hand, and memory in use is measured."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from tests.benchmarks.memory_slope import EPOCHS, Sample, lines_of
from tests.memory import resident_bytes, slope, trim


def test_the_slope_is_that_of_the_least_squares_line() -> None:
    # Mean of steps 2, of bytes 5: (-2 * -4 + 0 * 2 + 2 * 2) / (4 + 0 + 4).
    assert slope([[(0, 1), (2, 7), (4, 7)]]) == pytest.approx(12 / 8)


def test_starts_of_a_process_have_a_common_slope_and_separate_intercepts() -> None:
    first = [(step, 1_000_000 + 3 * step) for step in (0, 10, 20)]
    second = [(step, 5 + 3 * step) for step in (20, 30)]
    assert slope([first, [], [(7, 99)], second]) == pytest.approx(3.0)
    assert math.isnan(slope([[], [(7, 99)], [(7, 99), (7, 100)]]))


def test_the_first_tenth_of_the_samples_does_not_count() -> None:
    def bytes_after(epoch: int) -> int:
        return 10**8 + 2000 * 100 * epoch - (10**7 if epoch < 5 else 0)

    samples = [Sample(100 * i, bytes_after(i), 10**9, 0.5 * i) for i in range(EPOCHS)]
    assert lines_of("ours", [samples]) == ["| ours | 2.000 | 0.000 | 110 MB | 5.00 |"]
    assert lines_of("ours", [samples] * 2)[1].startswith("| ours, worker 1 | 2.000 |")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
def test_memory_in_use_is_measured_and_freed_memory_is_returned() -> None:
    pieces = [np.ones(1000) for _ in range(10_000)]  # 80 MB, in pieces that malloc keeps if freed
    held = resident_bytes()
    del pieces
    trim()
    assert 60e6 < held - resident_bytes() < 100e6
