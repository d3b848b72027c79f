"""`tfscale preflight` raises no false alarm on the recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


def looked_at(run_recipe: Callable[..., Any], *arguments: str) -> tuple[int, dict[str, Any]]:
    run = run_recipe("preflight", *arguments, "--json", module="tfscale")
    assert run.stdout, run.stderr
    return run.status, json.loads(run.stdout)


# 1,437 training images do not fill whole batches of 96, which is a warning.
@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        pytest.param("recipes.image_classification", "--dataset=digits", id="digits"),
        pytest.param("recipes.linear_regression", "--precision=float32", id="regression"),
    ],
)
def test_a_recipe_compiles_for_four_replicas(
    run_recipe: Callable[..., Any], recipe: str, flags: str
) -> None:
    status, report = looked_at(run_recipe, recipe, "--target=v5e:2x2", f"--flags={flags}")
    assert (status, report["compiled_by_xla_cpu"]) == (0, True)
    assert (report["num_replicas"], report["examples_per_replica"]) == (4, 24)
    assert {finding["kind"] for finding in report["findings"]} <= {"last batch"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes.image_classification", "--flags=--no_such_flag=1"], "`--flags` must be flags"),
        (["recipes.image_classification", "--flags=96"], "`--flags` must contain only flags"),
        (["recipes.results"], "`FUNCTION` must be a function of recipes.results"),
        (
            ["recipes.image_classification", "--flags=--global_batch_size=1438"],
            "`global_batch_size` must be at most 1437",
        ),
    ],
)
def test_wrong_flags_give_one_line_and_status_2(
    run_recipe: Callable[..., Any], arguments: list[str], message: str
) -> None:
    run = run_recipe("preflight", *arguments, module="tfscale")
    (line,) = [line for line in run.stderr.splitlines() if message in line]
    assert (run.status, run.stdout) == (2, "")
    assert line.startswith("tfscale preflight: ")
