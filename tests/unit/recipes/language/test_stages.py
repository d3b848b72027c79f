"""Which flags of a pipeline the language recipe refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.recipes.conftest import Run

STAGES = ["--distribution_strategy=mirrored", "--pipeline_stages=2"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--pipeline_stages=2"], "`--pipeline_stages` must be 1 unless --distribution_strategy="),
        ([*STAGES, "--tensor_parallel=2"], "`--pipeline_stages` must be 1 with --tensor_parallel"),
        (["--pipeline_schedule=gpipe"], "`--pipeline_schedule` must not be set without stages"),
        (["--pipeline_timed"], "`--pipeline_timed` must not be set without stages"),
        (
            [*STAGES, "--pipeline_virtual_stages=2"],
            "`--pipeline_virtual_stages` must be 1 unless --pipeline_schedule=interleaved",
        ),
        (
            [*STAGES, "--pipeline_schedule=interleaved", "--microbatches=3"],
            "`--microbatches` must be a multiple of --pipeline_stages",
        ),
        (
            [STAGES[0], "--size=nano", "--pipeline_stages=40"],
            "`--pipeline_stages` times --pipeline_virtual_stages must be at most the blocks",
        ),
        (
            [STAGES[0], "--size=nano", "--tensor_parallel=3"],
            "`--tensor_parallel` must divide the heads of the attention",
        ),
    ],
)
def test_wrong_combinations_are_refused_with_their_flags(
    run_recipe: Callable[..., Run], given: list[str], words: str
) -> None:
    run = run_recipe(*given, module="recipes.language_model")
    assert (run.status, len(run.complaints)) == (2, 1), run.stderr
    assert words in run.complaints[0]
    assert given[-1] in run.complaints[0]
