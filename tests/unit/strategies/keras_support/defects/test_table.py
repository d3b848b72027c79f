"""The table of fixes is complete and fits the installed Keras."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import strategies
from strategies.keras_support.defects.fix import Fix
from strategies.keras_support.defects.table import FIXES
from strategies.keras_support.patches import PATCHES
from strategies.keras_support.patching.fingerprints import Recognition
from strategies.keras_support.patching.patch import Patch

# The patches stay in this process's Keras.
pytestmark = pytest.mark.own_process


def by_row(fix: Fix) -> str:
    return fix.row


def by_target(patch: Patch) -> str:
    return patch.target.partition(":")[2]


@pytest.mark.parametrize("patch", PATCHES, ids=by_target)
def test_importing_the_table_installs_nothing(patch: Patch) -> None:
    assert not patch.is_installed()


@pytest.mark.parametrize("patch", PATCHES, ids=by_target)
def test_each_patched_symbol_of_the_installed_keras_is_recognised(
    patch: Patch,
) -> None:
    # Not by its signature only: a maintainer has read it.
    assert patch.recognition() is Recognition.SOURCE


@pytest.mark.parametrize("fix", FIXES, ids=by_row)
def test_building_a_strategy_installs_every_patch_of_a_fix(fix: Fix) -> None:
    strategies.one_device_strategy()
    assert fix.patches
    assert all(patch.is_installed() for patch in fix.patches)


def test_building_a_second_strategy_changes_no_patch() -> None:
    strategies.one_device_strategy()
    replaced = [patch.original() for patch in PATCHES]
    strategies.one_device_strategy()
    assert [patch.original() for patch in PATCHES] == replaced
    assert not any(hasattr(original, "__tfscale_original__") for original in replaced)


@pytest.mark.parametrize("fix", FIXES, ids=by_row)
def test_each_row_says_what_is_wrong_and_when_to_remove_its_fix(fix: Fix) -> None:
    assert re.fullmatch("[SHC][0-9]+", fix.row)
    assert fix.defect.strip()
    assert fix.remove_when.strip()
    assert all(thread.startswith("https://github.com/") for thread in fix.threads)


def test_rows_are_unique() -> None:
    assert [row for row, count in Counter(fix.row for fix in FIXES).items() if count > 1] == []


def test_no_two_patches_replace_the_same_symbol() -> None:
    assert len({patch.target for patch in PATCHES}) == len(PATCHES)


def test_every_installed_patch_is_in_the_table() -> None:
    listed = {patch for fix in FIXES for patch in fix.patches}
    assert listed <= set(PATCHES)
