"""The peers of `make bench`: which variant is compared with which."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.peers import benchmark_variants, start_variants
from tests.programs import completed


def test_every_variant_is_raced_behind_its_peer() -> None:
    names = [variant.name for variant in benchmark_variants()]
    assert len(set(names)) == len(names)
    for i, variant in enumerate(benchmark_variants()):
        assert variant.peer is None or variant.peer in names[:i]
        assert variant.limit is None or variant.limit in names
        assert set(variant.other_goals) <= set(names[:i])


def test_the_goals_are_those_that_were_promised() -> None:
    goals = {v.name: (v.peer, v.goal) for v in benchmark_variants() if v.goal is not None}
    assert goals == {
        "one_device": ("stock", 1.02),
        "mirrored": ("stock_mirrored", 0.8),
        "workers": ("patched_workers", 0.55),
    }
    others = {v.name: v.other_goals for v in benchmark_variants() if v.other_goals}
    assert others == {"mirrored": {"one_device": 1.3}, "workers": {"torch_ddp": 1.3}}


def test_clusters_of_both_sides_are_equally_large() -> None:
    workers = {v.name: v.num_workers for v in benchmark_variants() if v.num_workers}
    assert workers == {"torch_ddp": 2, "patched_workers": 2, "workers": 2}


def test_a_cold_start_has_stock_workers_beside_ours() -> None:
    by_name = {variant.name: variant for variant in start_variants()}
    assert by_name["patched_workers"].num_workers == by_name["workers"].num_workers == 2
    assert by_name["patched_workers"].peer == by_name["workers"].peer == "torchrun"


@pytest.mark.thorough
def test_two_workers_of_stock_keras_take_their_first_step() -> None:
    flags = ("--model=tiny_mlp", "--variants=patched_workers", "--rounds=2", "--json")
    done = completed("-m", "tests.benchmarks", "startup", *flags, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    (row,) = json.loads(done.stdout)["rows"]
    assert row["value"]["median"] > 0
