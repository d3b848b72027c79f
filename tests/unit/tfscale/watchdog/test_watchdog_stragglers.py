"""Which worker is reported as slower than the others."""

from __future__ import annotations

import pytest

from tfscale.watchdog.stragglers import straggler_line

FAST = {"trace": 3.0, "step": 6.0, "input": 0.5, "collective": 3.5}


@pytest.mark.parametrize(
    ("second", "named"),
    [
        pytest.param({**FAST, "input": 4.0, "collective": 0.0}, "input", id="slow input"),
        pytest.param({**FAST, "save": 3.5, "collective": 0.0}, "save", id="it saves for all"),
        pytest.param(
            {**FAST, "step": 7.2, "collective": 2.3}, None, id="7.7 s are below 1.2 x 6.5"
        ),
        pytest.param({**FAST, "trace": 9.0, "collective": 0.0}, None, id="tracing is no work"),
        pytest.param(
            {"step": 7.9, "input": 0.0, "collective": 92.1}, None, id="1.4 s of 100 delay no worker"
        ),
    ],
)
def test_a_straggler_is_slower_in_its_own_work(second: dict[str, float], named: str | None) -> None:
    line = straggler_line(0, [("worker 0", FAST), ("worker 1", second), ("worker 2", FAST)])
    if named is None:
        assert line is None
    else:
        assert line is not None
        assert line.startswith(
            "worker 1 is slower: its own work in epoch 1 took 10.0 s, that of the others 6.5 s"
        )
        assert f"most of the difference is in {named}:" in line


def test_a_single_worker_is_not_a_straggler() -> None:
    assert straggler_line(0, [("worker 0", FAST)]) is None
