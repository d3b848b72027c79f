"""The job of all cases that must succeed, run once for all tests that check its results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.once import made_once
from tests.workers.job import Found, left, run_one_device, run_workers

Cases = Callable[[str], list[Found]]


@pytest.fixture(scope="session")
def agreement_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(
        tmp_path_factory, "agreement", lambda folder: run_workers("agreement", folder, "all")
    )


@pytest.fixture(scope="session")
def both(agreement_folder: Path) -> Cases:
    """Returns the results of the two workers in a case."""
    found = left(agreement_folder, "all")
    return lambda case: [worker[case] for worker in found]


@pytest.fixture(scope="session")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The results of stock Keras on one device."""
    folder = made_once(
        tmp_path_factory,
        "agreement-one-device",
        lambda folder: run_one_device("agreement", folder, "stock"),
    )
    return left(folder, "stock", 1)[0]


@pytest.fixture(scope="session")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Found]]:
    """Runs a case of `failing` in a separate job; returns how each worker ended."""
    return lambda case: run_workers("failing", tmp_path_factory.mktemp(case), case)
