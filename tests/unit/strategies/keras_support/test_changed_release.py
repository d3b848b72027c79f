"""A release that changed a symbol: what needs the symbol is refused, and the rest works.

The release is simulated by forgetting the known fingerprints. The symbols themselves are those of
the installed release, so what is not refused must train to the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from strategies.keras_support import installation
from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.patch import Patch
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import PrivateSymbol
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from tests.changed_release import UNKNOWN, symbols
from tests.programs import completed, forked

SYMBOLS = (*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS)
DEADLINE_SECONDS = 300
PROGRAM = "tests.unit.strategies.keras_support.features_of_release"

REFUSED = {
    "evaluate": Need.EVALUATE,
    "validation": Need.EVALUATE,
    "predict": Need.PREDICT,
    "class_weight": Need.CLASS_WEIGHT,
    "dropout": Need.RANDOM_LAYERS,
    "regularizer": Need.ADDED_LOSSES,
    "synchronized": Need.SYNCHRONIZED_BATCH_NORM,
    "loss scaling": Need.LOSS_SCALING,
    "inner function": Need.INNER_FUNCTIONS,
    "clear_session": Need.CLEAR_SESSION,
    "backup": Need.BACKUP,
    "local updates": Need.LOCAL_UPDATES,
    "pruning": Need.PRUNING,
    "microbatches": Need.MICROBATCHES,
    "slots in bfloat16": Need.STATE_DTYPE,
    "recomputation": Need.RECOMPUTATION,
    "sharded": Need.SHARDING,
}
"""Uses on two replicas of one process, and what each needs."""
WORKS = (
    "class_weight of arrays",
    "pipeline",
    "not synchronized",
    "csv",
    "checkpoint",
    "saving",
)
"""Uses on two replicas that need none of the changed symbols; some do with several workers."""


def report(state: str) -> dict[str, Any]:
    done = completed(*forked("-m", PROGRAM, state), timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def changed() -> dict[str, Any]:
    return report("changed")


@pytest.mark.parametrize(("use", "need"), REFUSED.items(), ids=REFUSED)
def test_a_use_that_needs_changed_symbols_is_refused_by_their_names(
    changed: dict[str, Any], use: str, need: Need
) -> None:
    refusal = changed["refusals"][use]
    assert refusal is not None
    assert f"must be releases that tfscale supports for {need.value}. Received: " in refusal
    assert f"in which {', '.join(symbols(need))} changed. Install releases" in refusal


@pytest.mark.parametrize("use", WORKS)
def test_a_use_that_needs_none_of_them_works(changed: dict[str, Any], use: str) -> None:
    assert changed["refusals"][use] is None


def test_what_is_not_refused_trains_to_the_numbers_of_a_known_release(
    changed: dict[str, Any],
) -> None:
    assert changed["losses"] == pytest.approx(report("known")["losses"], rel=1e-12)


def test_every_feature_is_tried() -> None:
    tried = set(REFUSED.values()) | WITH_WORKERS
    needs = {patch.need for patch in PATCHES} | {symbol.need for symbol in SYMBOLS}
    assert {need for need in needs if not need.is_of_strategy} - tried == UNTRIED


WITH_WORKERS = {
    Need.CSV_LOGGER,
    Need.MODEL_CHECKPOINT,
    Need.SAVING_IN_SCOPE,
    Need.TENSORBOARD,
}
"""See `tests/workers/test_changed_release.py`."""
UNTRIED = {Need.COPIES, Need.FINDERS, Need.PIPELINES, Need.REPORTS, Need.TENSOR_PARALLEL}
"""PIPELINES and TENSOR_PARALLEL need several devices for each replica. COPIES and FINDERS are
refused before any strategy: see `test_preparation` and `test_random_state`.
"""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.target)
def test_one_changed_patch_refuses_its_need_only(
    monkeypatch: pytest.MonkeyPatch, patch: Patch
) -> None:
    monkeypatch.setattr(installation, "PATCHES", (dataclasses.replace(patch, accepted=UNKNOWN),))
    assert installation.changes_by_need() == {patch.need: [patch.target]}


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda symbol: symbol.target)
def test_one_changed_private_symbol_refuses_its_need_only(
    monkeypatch: pytest.MonkeyPatch, symbol: PrivateSymbol
) -> None:
    changed = dataclasses.replace(symbol, accepted=tuple(UNKNOWN))
    monkeypatch.setattr(installation, "PATCHES", ())
    monkeypatch.setattr(installation, "KERAS_SYMBOLS", (changed,))
    monkeypatch.setattr(installation, "TENSORFLOW_SYMBOLS", ())
    assert installation.changes_by_need() == {symbol.need: [symbol.target]}


def test_the_installed_release_changed_nothing() -> None:
    assert installation.changes_by_need() == {}


def test_a_feature_whose_only_patched_symbol_is_gone_refuses_all_strategies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Patch("keras:Model.gone", UNKNOWN, lambda original: original, Need.ADDED_LOSSES)
    monkeypatch.setattr(installation, "PATCHES", (gone,))
    assert installation.changes_by_need() == {Need.TRAINING: ["keras:Model.gone"]}


def test_a_feature_that_is_checked_where_it_is_used_is_refused_there_if_a_symbol_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Patch("keras.nowhere:f", UNKNOWN, lambda original: original, Need.CSV_LOGGER)
    monkeypatch.setattr(installation, "PATCHES", (gone,))
    assert installation.changes_by_need() == {Need.CSV_LOGGER: ["keras.nowhere:f"]}
