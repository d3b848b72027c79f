from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.recipes.conftest import Run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset=nosuch", r"--dataset=nosuch, --data_dir=.* Check the spelling"),
        ("--dataset=", r"`--dataset` must be digits, a set of"),
        ("--dataset=digits:9.9.9", r"--dataset=digits:9.9.9"),
        ("--dataset=digits/bold", r"--dataset=digits/bold"),
        ("--dataset=stripes/train_only", r"splits train and test.* which has train\. Choose"),
        ("--dataset=stripes/unlabelled", r"class label each.* Choose an image classification set"),
        ("--dataset=stripes/any_size", r"one size.*shape \(None, None, 3\) in uint8\. Write"),
        ("--dataset=stripes/float", r"uint8 or uint16.*shape \(12, 10, 1\) in float32\. Write"),
        ("--global_batch_size=1438", r"at most 1437.*global_batch_size=1438\. Use a smaller batch"),
        ("--global_batch_size=0", r"--global_batch_size=0: must be a positive integer.*See --help"),
        (
            "--distribution_strategy=mirrored --num_replicas=0",
            r"--num_replicas=0: must be a positive integer",
        ),
        ("--num_replicas=2", r"--num_replicas=2\. Leave it out, or use .*=mirrored\."),
        ("--distribution_strategy=one_device --all_reduce=ring", r"=mirrored or multi_worker_mir"),
        ("--distribution_strategy=mirrored --all_reduce=fast", r"all_reduce='fast'\. Use 'auto'"),
        ("--distribution_strategy=mirrored --all_reduce=nccl", r"without GPUs.*Use 'auto'"),
        ("--distribution_strategy=mirrored --tpu=local", r"`--tpu` must not be set"),
        ("--distribution_strategy=tpu", r"must name a TPU.*Run on a Cloud TPU VM"),
        ("--distribution_strategy=multi_worker_mirrored", r"tfscale launch --num_workers=2"),
        ("--distribution_strategy=parameter_server", r"'ps'.*TF_CONFIG"),
        ("--distribution_strategy=everything", r"=everything: value should be one of.*See --help"),
        ("--precision=float7", r"--precision=float7: value should be one of.*See --help"),
        (
            "--learning_rate=nan",
            r"--learning_rate=nan: must be positive and finite\. .* 'nan'\. Example: 0\.01\. See",
        ),
        ("--dropout=1", r"--dropout=1: must be in \[0, 1\)"),
        ("--augmentation=5", r"--augmentation=5: must be in \[0, 4\]"),
        ("--gradient_clip_norm=0", r"--gradient_clip_norm=0: must be positive"),
        ("--optimizer=adm", r"--optimizer=adm: value should be one of.*See --help"),
        ("--momentum=0.9", r"`momentum` must not be passed for adam.*or choose one of"),
        (
            "--train_steps=9 --warmup_steps=9",
            r"fewer than the 9 steps.*warmup_steps=9\. Shorten the warm-up",
        ),
        ("--microbatches=0", r"--microbatches=0: must be a positive integer.*See --help"),
        ("--predictions=/dev/null/p.csv", r"--predictions=/dev/null/p.csv \(.*\)\. Choose another"),
        (
            "--predictions=wrong",
            r"--predictions=wrong \(wrong: it is a folder, not a file\)\. Choose",
        ),
        ("--seed=-1", r"--seed=-1: must be an integer in \[0, 2\*\*31\)\. Received: .*See --help"),
        ("--train_epochs=many", r"--train_epochs=many: must be a positive integer.*See --help"),
        ("--train_epochs=1_0", r"--train_epochs=1_0: must be a positive integer.*See --help"),
        (
            "--model_dir=/dev/null/runs",
            r"--model_dir=/dev/null/runs \(.*\)\. Choose another folder",
        ),
        ("--model_dir=nosuch://runs", r"--model_dir=nosuch://runs \(.*\)\. Choose another folder"),
        ("--flagfile=/nosuch", r"/nosuch.*See --help"),
        ("--train_epoch=3", r"Unknown command line flag 'train_epoch'.*See --help"),
        ("digits --seed=1", r"Unknown arguments: digits\. Flags start with two dashes"),
    ],
)
def test_wrong_input_gives_one_line_with_the_cure_and_status_2(
    run_recipe: Callable[..., Run], data_dir: str, flags: str, message: str
) -> None:
    run = run_recipe(f"--data_dir={data_dir}", "--model_dir=wrong", *flags.split())
    assert (run.status, run.stdout) == (2, ""), run.stderr
    (line,) = run.complaints
    assert re.match(f"image_classification.py: .*{message}", line), line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"`TF_CONFIG` must be"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', r"task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', r"index"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "a:1"),
    ],
)
@pytest.mark.parametrize("strategy", ["auto", "multi_worker_mirrored"])
def test_a_corrupt_cluster_gives_one_line_and_status_2(
    run_recipe: Callable[..., Run], data_dir: str, strategy: str, config: str, message: str
) -> None:
    flags = f"--data_dir={data_dir}", f"--distribution_strategy={strategy}"
    run = run_recipe(*flags, TF_CONFIG=config)
    assert (run.status, run.stdout) == (2, ""), run.stderr
    (line,) = run.complaints
    assert re.match(f"image_classification.py: .*{message}", line), line


def test_wrong_input_writes_nothing(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    model_dir = tmp_path / "model"
    flags = f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--global_batch_size=1438"
    assert run_recipe(*flags).status == 2
    assert [*model_dir.iterdir()] == []


def test_a_file_is_refused_as_model_directory(
    run_recipe: Callable[..., Run], data_dir: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    run = run_recipe(f"--data_dir={data_dir}", f"--model_dir={tmp_path / 'file'}")
    assert run.status == 2
    assert "Choose another folder." in run.complaints[0]
    assert (tmp_path / "file").read_text() == "mine"


def test_the_traceback_of_an_error_is_shown_on_request(run_recipe: Callable[..., Run]) -> None:
    run = run_recipe("--dataset=nosuch", "--traceback")
    assert run.status == 1
    assert "Traceback" in run.stderr
    assert "find_image_set" in run.stderr
