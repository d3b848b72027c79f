"""The language recipe: the same model on one device and on replicas, and its output files."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import recipes.language.model  # registers the layers
from tests.programs import completed
from tests.unit.recipes.conftest import Run
from tfscale.report.directory import read_directory

MODULE = "recipes.language_model"
PLACES = {
    "one device": ["--distribution_strategy=one_device"],
    "mirrored": ["--distribution_strategy=mirrored", "--num_replicas=2"],
}
SIZE = ["--layers=1", "--width=16", "--heads=2", "--context=24"]
STEPS = ["--train_steps=6", "--steps_per_validation=2", "--warmup_steps=1"]
FLAGS = [*SIZE, *STEPS, "--global_batch_size=5", "--sample_length=8", "--precision=float64"]
FLAGS += ["--peak_flops=1e12"]  # measuring it takes two seconds
FILES = {"model.keras", "report.html", "run.json", "summary.json", "metrics.csv", "sample.txt"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Files of 1 to 60 bytes: most rows have several documents, and many have padding."""
    folder = tmp_path_factory.mktemp("text")
    random = np.random.default_rng(0)
    for number in range(60):
        (folder / f"{number}.txt").write_bytes(random.bytes(number + 1))
    return f"{folder}/*.txt"


@pytest.fixture(scope="module")
def summaries(
    run_recipe: Callable[..., Run], text: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    found = {}
    for place, where in PLACES.items():
        folder = tmp_path_factory.mktemp("run")
        run = run_recipe(*where, *FLAGS, f"--text={text}", f"--model_dir={folder}", module=MODULE)
        assert run.status == 0, run.stderr
        assert run.complaints == []
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        found[place] = {**summary, "stdout": run.stdout, "folder": folder}
    return found


def test_replicas_match_single_device_results(summaries: dict[str, Any]) -> None:
    one, other = summaries.values()
    for name in ("loss", "bits_per_byte", "val_loss", "val_bits_per_byte"):
        assert other["history"][name] == pytest.approx(one["history"][name], abs=1e-9)
    first, second = (
        keras.models.load_model(found["folder"] / "model.keras").get_weights()
        for found in (one, other)
    )
    for array, expected in zip(second, first, strict=True):
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-9)


def test_it_writes_a_model_a_record_and_a_text(summaries: dict[str, Any]) -> None:
    found = summaries["mirrored"]
    folder: Path = found["folder"]
    assert {path.name for path in folder.iterdir()} == FILES
    record = read_directory(folder)
    assert record.results["bits_per_byte"] == found["history"]["val_bits_per_byte"][-1]
    assert record.results["num_tokens"] == 6 * 5 * 24
    assert 0 < record.results["flops_utilization"] < 1
    assert (folder / "sample.txt").read_text("utf-8").startswith("def ")
    assert f"report: {folder}/report.html" in found["stdout"]
    # 256 rows of 16, four matrices of attention, three of 16 by 64, three norms.
    assert record.results["num_parameters"] == 256 * 16 + 4 * 16 * 16 + 3 * 16 * 64 + 3 * 16


@pytest.mark.thorough
@pytest.mark.parametrize(
    "way", [[], ["--recompute"], ["--pipeline_stages=2"], ["--pipeline_stages=2", "--recompute"]]
)
def test_less_memory_gives_the_same_results(
    run_recipe: Callable[..., Run],
    text: str,
    summaries: dict[str, Any],
    way: list[str],
    tmp_path: Path,
) -> None:
    flags = [*PLACES["mirrored"], *FLAGS, f"--text={text}", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, "--microbatches=2", *way, module=MODULE)
    assert run.status == 0, run.stderr
    history = json.loads((tmp_path / "summary.json").read_text("utf-8"))["history"]
    for name, values in summaries["one device"]["history"].items():
        assert history[name] == pytest.approx(values, abs=1e-9)


@pytest.mark.thorough
def test_two_workers_that_share_the_weights_give_the_same_results(
    text: str, summaries: dict[str, Any], tmp_path: Path
) -> None:
    flags = ["--distribution_strategy=multi_worker_mirrored", "--shard=3", *FLAGS]
    recipe = [sys.executable, "-m", MODULE, *flags, f"--text={text}", f"--model_dir={tmp_path}"]
    done = completed("-m", "tfscale", "launch", "--num_workers=2", "--", *recipe, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    history = json.loads((tmp_path / "summary.json").read_text("utf-8"))["history"]
    for name, values in summaries["one device"]["history"].items():
        assert history[name] == pytest.approx(values, abs=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "where", [PLACES["one device"], ["--distribution_strategy=mirrored", "--pipeline_stages=2"]]
)
def test_an_interrupted_run_resumes(
    run_recipe: Callable[..., Run], text: str, where: list[str], tmp_path: Path
) -> None:
    flags = [*where, *FLAGS, f"--text={text}", f"--model_dir={tmp_path}"]
    flags += ["--checkpoint_every=epoch"]
    cut_off = "tests.unit.recipes.cut_off"
    assert run_recipe(*flags, module=cut_off, RECIPE=MODULE).status == -9
    resumed = run_recipe(*flags, module=MODULE)
    assert resumed.status == 0, resumed.stderr
    assert "checkpoints after 3 of 3 epochs." in resumed.stderr
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.thorough
@pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="needs tfscale[language]"
)
def test_pairs_of_bytes_and_several_sizes_give_a_table(
    run_recipe: Callable[..., Run], tmp_path: Path
) -> None:
    flags = ["--vocabulary=bpe", "--vocabulary_size=300", "--scaling=nano,tiny", "--context=32"]
    flags += ["--global_batch_size=4", "--train_steps=4", "--warmup_steps=1"]
    source = f"--text={Path(recipes.language.model.__file__).parent}/*.py"
    run = run_recipe(*flags, source, f"--model_dir={tmp_path}", module=MODULE)
    assert run.status == 0, run.stderr
    assert "vocabulary: bpe of 300 tokens" in run.stdout
    table = (tmp_path / "scaling.md").read_text("utf-8").splitlines()
    assert [line.split(" | ")[0] for line in table] == ["| size", "| ---", "| nano", "| tiny"]
    assert table[2].split(" | ")[2] == table[3].split(" | ")[2] == f"{4 * 4 * 32}"
    assert (tmp_path / "vocabulary.json").is_file()
    sizes = json.loads((tmp_path / "summary.json").read_text("utf-8"))["sizes"]
    assert 0 < sizes["nano"]["bits_per_byte"] < 9


@pytest.mark.thorough
def test_the_default_text_is_learned(run_recipe: Callable[..., Run], tmp_path: Path) -> None:
    flags = ["--size=nano", "--context=64", "--train_steps=200", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, module=MODULE, seconds=600)
    assert run.status == 0, run.stderr
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["bits_per_byte"] < 4.3
    assert summary["history"]["val_bits_per_byte"][0] > summary["bits_per_byte"]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--scaling=nano,huge", "`--scaling` must be names of sizes: nano, tiny, small, base"),
        ("--scaling=nano", "`--layers` must not be set with --scaling=nano"),
        ("--vocabulary_size=300", "`--vocabulary_size` must not be set with --vocabulary=bytes"),
        ("--steps_per_validation=4", "`--steps_per_validation` must divide --train_steps"),
        ("--width=18", "`--width` must be an even multiple of --heads"),
        ("--text=/nowhere/*.txt", "`--text` must be a pattern that matches files"),
        ("--global_batch_size=500", "must be at most the rows of --context tokens"),
    ],
)
def test_impossible_flags_are_refused_in_one_line(
    run_recipe: Callable[..., Run], flag: str, words: str, text: str, tmp_path: Path
) -> None:
    flags = [*PLACES["one device"], *FLAGS, f"--text={text}", f"--model_dir={tmp_path}"]
    run = run_recipe(*flags, flag, module=MODULE)
    assert (run.status, len(run.complaints)) == (2, 1), run.stderr
    assert words in run.complaints[0]


def test_help_shows_the_flags_of_this_recipe_only(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--help", module=MODULE)
    assert (run.status, run.stderr) == (0, "")
    own = run.stdout.partition("this recipe:\n")[2].partition("\n\n")[0]
    pattern = r"^  --(\w+)(?:=\S+)?(?:\s+\(default: (.*)\))?$"
    # Scripts use these: change this table only on purpose.
    assert dict(re.findall(pattern, own, re.MULTILINE)) == {
        "size": "tiny",
        "layers": "",
        "width": "",
        "heads": "",
        "tensor_parallel": "1",
        "pipeline_stages": "1",
        "pipeline_schedule": "1f1b",
        "pipeline_virtual_stages": "1",
        "pipeline_timed": "",
        "context": "128",
        "text": "",
        "held_out": "0.05",
        "validation_bytes": "65536",
        "steps_per_validation": "",
        "vocabulary": "bytes",
        "vocabulary_size": "4096",
        "weight_decay": "0.1",
        "recompute": "",
        "scaling": "",
    }
    assert "--train_epochs" not in run.stdout
