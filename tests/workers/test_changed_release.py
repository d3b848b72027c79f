"""Two workers under a release that changed a symbol: only what needs it is refused, on both."""

from __future__ import annotations

from pathlib import Path

import pytest

from strategies.keras_support.patching.needs import Need
from tests.changed_release import symbols
from tests.workers.job import Found, run_one_device, run_workers


@pytest.fixture(scope="module")
def of_features(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    return run_workers("changed_release", tmp_path_factory.mktemp("features"), "features")


@pytest.mark.parametrize(
    ("use", "need"),
    {
        "csv": Need.CSV_LOGGER,
        "checkpoint": Need.MODEL_CHECKPOINT,
        "tensorboard": Need.TENSORBOARD,
        "saving": Need.SAVING_IN_SCOPE,
    }.items(),
)
def test_each_worker_is_refused_a_use_that_needs_changed_symbols(
    of_features: list[Found], use: str, need: Need
) -> None:
    for worker in of_features:
        assert f"that tfscale supports for {need.value}. Received: " in worker[use]
        assert f"in which {', '.join(symbols(need))} changed. " in worker[use]


def test_other_callbacks_and_training_work(of_features: list[Found], tmp_path: Path) -> None:
    assert [worker["none"] for worker in of_features] == [None, None]
    stock = run_one_device("changed_release", tmp_path, "stock")
    for worker in of_features:
        assert worker["weights"] == pytest.approx(stock["weights"], rel=1e-12)


def test_symbols_that_several_workers_need_refuse_their_strategy(tmp_path: Path) -> None:
    for worker in run_workers("changed_release", tmp_path, "workers"):
        assert "that tfscale supports for several workers. Received: " in worker["several"]
        assert f"in which {', '.join(symbols(Need.WORKERS))} changed. " in worker["several"]
