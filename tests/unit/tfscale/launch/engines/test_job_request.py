"""What a user asks of an engine, and the record of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tfscale.launch.engines import JobRequest, NoSuchJob, all_records, default_name, find_record
from tfscale.launch.engines.job_record import new_record


@pytest.mark.parametrize("name", ["Digits", "2nd", "a_b", "x" * 41, "", "a-", "-a", "a b"])
def test_a_name_that_a_cluster_would_refuse_is_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match=r"`job_name` must be .* Received: .*Example: digits-2"):
        JobRequest(("true",), name, num_workers=1)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("python", "train.py"), "train"),
        (("/usr/bin/python3.11", "-u", "Big_Model.py", "--x"), "big-model"),
        (("python", "-m", "recipes.language_model"), "language-model"),
        (("./run.sh",), "sh"),
        (("python",), "python"),
        (("python", "x" * 200), "x" * 32),
        (("123",), "job"),
        (("日本",), "job"),
    ],
)
def test_the_default_name_is_allowed(command: tuple[str, ...], name: str) -> None:
    assert default_name(command) == name
    assert JobRequest(command, default_name(command), num_workers=1).name == name


def test_a_variable_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`env` must be NAME=VALUE .* Received: '1A'"):
        JobRequest(("true",), "a", num_workers=1, environment={"1A": "x"})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    request = JobRequest(("echo", "ä\n"), "one", 2, num_ps=1, options={"partition": "gpu"})
    job = new_record(request, "local", tmp_path).with_engine_id("4711")
    job.folder.mkdir()
    job.save()
    assert find_record(job.id, tmp_path) == job
    assert find_record(job.id[:5], tmp_path) == job
    damaged: list[NoSuchJob] = []
    assert all_records(tmp_path, damaged.append) == [job]
    assert damaged == []


def test_an_id_that_means_no_job_or_two_is_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        job = new_record(JobRequest(("true",), "one", 1), "local", tmp_path)
        job.folder.mkdir()
        job.save()
    with pytest.raises(NoSuchJob, match=r"'one' is the beginning of one-\w+, one-\w+\. Give"):
        find_record("one", tmp_path)
    for wrong in ("two", ""):
        with pytest.raises(NoSuchJob, match=rf"no job '{wrong}' in {re.escape(str(tmp_path))}"):
            find_record(wrong, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": 1', "null", '{"log_dir": 3}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "one-1").mkdir()
    (tmp_path / "one-1" / "job.json").write_text(text)
    with pytest.raises(NoSuchJob, match=r"one-1/job.json is not a record of a job"):
        find_record("one-1", tmp_path)
