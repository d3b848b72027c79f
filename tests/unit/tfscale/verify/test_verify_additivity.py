"""How the result of a batch depends on its rows, for made-up results of its parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tfscale.verify.probes import Behaviour, Parts, behaviour

ROWS = np.array([[1.0, -2.0, 4.0], [3.0, 5.0, -1.0], [2.0, 2.0, 7.0], [0.5, 8.0, 3.0]])
COUNTS = np.array([1.0, 0.0, 3.0, 2.0])
Of = Callable[[np.ndarray], np.ndarray]  # a result of the rows with these numbers


def parts(result: Of) -> Parts:
    return Parts(
        result(np.array([0, 1, 2, 3])),
        result(np.array([0])),
        result(np.array([1, 2, 3])),
        result(np.array([0, 1, 2, 3] * 2)),
        0.25,
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(lambda i: ROWS[i].mean(0), Behaviour.MEAN, id="a mean"),
        pytest.param(lambda i: ROWS[i].mean(0) + 7, Behaviour.MEAN, id="a mean and a penalty"),
        pytest.param(lambda i: np.ones(3), Behaviour.MEAN, id="the same for all rows"),
        pytest.param(lambda i: np.zeros(3), Behaviour.MEAN, id="nothing"),
        pytest.param(lambda i: ROWS[i].sum(0), Behaviour.SUM, id="a sum"),
        pytest.param(lambda i: ROWS[i].sum(0) + 7, Behaviour.SUM, id="a sum and a penalty"),
        pytest.param(lambda i: np.array(len(i)), Behaviour.SUM, id="a count"),
        pytest.param(
            lambda i: (COUNTS[i, None] * ROWS[i]).sum(0) / COUNTS[i].sum(),
            Behaviour.RATIO,
            id="divided by its own count",
        ),
        pytest.param(lambda i: np.sqrt((ROWS[i] ** 2).mean(0)), Behaviour.WHOLE, id="a root"),
        pytest.param(
            lambda i: np.array([np.log(np.exp(ROWS[i] @ ROWS[j]).sum()) for j in i]).mean(),
            Behaviour.PAIRS,
            id="each row against all",
        ),
    ],
)
def test_the_results_of_parts_show_how_a_result_depends_on_rows(
    result: Of, expected: Behaviour
) -> None:
    assert behaviour(parts(result), 1e-9) is expected


def test_rounding_does_not_count() -> None:
    exact = parts(lambda i: ROWS[i].mean(0))
    rounded = Parts(exact.whole * (1 + 1e-9), exact.head, exact.tail, exact.twice, exact.share)
    assert behaviour(rounded, 1e-7) is Behaviour.MEAN
    assert behaviour(rounded, 1e-12) is not Behaviour.MEAN
