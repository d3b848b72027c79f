"""The search over a ladder of chains: which are trained, and which is taken."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tfscale.shrink import Chain, Compressed, FoundChain, StageCost, chain_ladder, search_chain

LADDER = chain_ladder(epochs=3)
# By rung: bytes without and with training, and the accuracy, of a model of 9000 bytes and 0.99.
ESTIMATED = [4000, 3100, 2000, 1000, 900, 800, 500, 400, 200]
TRAINED = [4000, 3000, 2080, 1010, 880, 810, 510, 390, 210]
ACCURACY = [0.99, 0.99, 0.985, 0.98, 0.97, 0.96, 0.93, 0.9, 0.5]


def searched(calls: list[tuple[int, bool]], **limits: Any) -> FoundChain:
    """Searches; `calls` receives each rung that was asked for, and whether it was trained."""

    def attempt(chain: Chain) -> Compressed:
        rung = [each.without_training() for each in LADDER].index(chain.without_training())
        is_trained = bool(chain.epochs)
        calls.append((rung, is_trained))
        size = (TRAINED if is_trained else ESTIMATED)[rung]
        stages = tuple(
            StageCost(name, name, {"accuracy": value}, bytes_, bytes_, 0.0, 1, 0.0)
            for name, value, bytes_ in (("float", 0.99, 9000), ("last", ACCURACY[rung], size))
        )
        return Compressed(cast("Any", None), chain, stages, "litert", b"")

    return search_chain(attempt, LADDER, metric="accuracy", higher_is_better=True, **limits)


def trained(calls: list[tuple[int, bool]]) -> list[int]:
    return [rung for rung, is_trained in calls if is_trained]


@pytest.mark.parametrize(
    ("target_size", "expected", "attempts"),
    [
        (9000, 0, [0]),
        (3000, 1, [1]),  # estimated a little too large, and small enough when trained
        (2050, 3, [2, 3]),  # estimated small enough, and a little too large when trained
        (210, 8, [8]),
        (190, None, []),
    ],
)
def test_the_mildest_chain_that_is_small_enough(
    target_size: int, expected: int | None, attempts: list[int]
) -> None:
    calls: list[tuple[int, bool]] = []
    found = searched(calls, target_size=target_size)
    assert trained(calls) == attempts
    assert (found.best and found.best.chain) == (None if expected is None else LADDER[expected])
    assert len(found.tried) == len(found.lost) == len(attempts)


@pytest.mark.parametrize(
    ("max_accuracy_loss", "expected"), [(0.0, 1), (0.011, 3), (0.031, 5), (1.0, 8), (0.004, 1)]
)
def test_the_strongest_chain_that_loses_little_enough(
    max_accuracy_loss: float, expected: int
) -> None:
    calls: list[tuple[int, bool]] = []
    found = searched(calls, max_accuracy_loss=max_accuracy_loss)
    assert found.best is not None
    assert found.best.chain == LADDER[expected]
    assert len(trained(calls)) <= 4  # of nine
    assert not [rung for rung, is_trained in calls if not is_trained]


def test_both_limits() -> None:
    calls: list[tuple[int, bool]] = []
    found = searched(calls, target_size=1010, max_accuracy_loss=0.02)
    assert found.best is not None
    assert found.best.chain == LADDER[3]
    too_bad = searched([], target_size=1010, max_accuracy_loss=0.005)
    assert too_bad.best is None
    assert too_bad.lost == pytest.approx((0.01,))


def test_a_ladder_goes_down_and_ends_stronger_without_cuts() -> None:
    assert [chain.channels for chain in chain_ladder(cuts=False)] == [0.0] * 7
    assert [chain.sparsity for chain in chain_ladder(quantize=None, cuts=False)] == [
        *(0.5, 0.7, 0.8, 0.9),
        *(0.95, 0.95),
    ]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "`target_size` or `max_accuracy_loss` must be given"),
        ({"target_size": 0}, "`target_size` must be"),
        ({"max_accuracy_loss": -0.1}, "`max_accuracy_loss` must be"),
    ],
)
def test_wrong_limits_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        searched([], **limits)
    with pytest.raises(ValueError, match="`metric` must be one of accuracy"):
        search_chain(
            lambda chain: searched([], target_size=9000).tried[0],
            LADDER,
            metric="auc",
            higher_is_better=True,
            max_accuracy_loss=0.1,
        )
