"""The table of repairs is complete, and written against the Keras that is installed."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import strategies
from strategies.keras_support.defects.repair import Repair
from strategies.keras_support.defects.table import REPAIRS, SEAMS
from strategies.keras_support.patching.seam import Seam

# The seams go into this process's Keras for good.
pytestmark = pytest.mark.own_process


def by_row(repair: Repair) -> str:
    return repair.row


def by_target(seam: Seam) -> str:
    return seam.target.partition(":")[2]


@pytest.mark.parametrize("seam", SEAMS, ids=by_target)
def test_importing_the_registry_installs_nothing(seam: Seam) -> None:
    assert not seam.is_installed()


@pytest.mark.parametrize("seam", SEAMS, ids=by_target)
def test_the_installed_keras_holds_a_source_that_the_seam_was_written_against(seam: Seam) -> None:
    assert seam.is_recognised()


@pytest.mark.parametrize("repair", REPAIRS, ids=by_row)
def test_building_a_strategy_installs_every_seam_of_a_repair(repair: Repair) -> None:
    strategies.one_device_strategy()
    assert repair.seams
    assert all(seam.is_installed() for seam in repair.seams)


def test_building_a_second_strategy_leaves_the_seams_where_they_are() -> None:
    strategies.one_device_strategy()
    replaced = [seam.original() for seam in SEAMS]
    strategies.one_device_strategy()
    assert [seam.original() for seam in SEAMS] == replaced
    assert not any(hasattr(original, "__tfscale_original__") for original in replaced)


@pytest.mark.parametrize("repair", REPAIRS, ids=by_row)
def test_each_row_says_what_is_wrong_and_when_its_repair_may_go(repair: Repair) -> None:
    assert re.fullmatch("[SHC][0-9]+", repair.row)
    assert repair.defect.strip()
    assert repair.remove_when.strip()
    assert all(thread.startswith("https://github.com/") for thread in repair.threads)


def test_rows_are_unique() -> None:
    assert [
        row for row, count in Counter(repair.row for repair in REPAIRS).items() if count > 1
    ] == []


def test_no_two_seams_stand_at_the_same_symbol() -> None:
    assert len({seam.target for seam in SEAMS}) == len(SEAMS)


def test_every_installed_seam_is_one_that_a_person_can_look_up() -> None:
    listed = {seam for repair in REPAIRS for seam in repair.seams}
    assert listed <= set(SEAMS)
