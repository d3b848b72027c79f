"""The script for sbatch: what is asked for, in Slurm's words, and what Slurm cannot do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch.engines import JobRequest, Submission
from tfscale.launch.engines.job_record import new_record
from tfscale.launch.engines.slurm.engine import Slurm
from tfscale.launch.engines.slurm.options import array_members


def submission(folder: Path, environ: Mapping[str, str] | None = None, **asked: Any) -> Submission:
    command = asked.pop("command", ("python", "train.py"))
    values = {"num_workers": 4, "folder": folder, **asked}
    request = JobRequest(command, "digits", **values)
    engine = Slurm(environ or {})
    return engine.submission(request, new_record(request, engine.name, folder / "jobs"))


def flags_of(folder: Path, **asked: Any) -> list[str]:
    script = submission(folder, **asked).files["job.sbatch"]
    return re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)


def test_what_is_asked_for_is_said_in_the_words_of_sbatch(tmp_path: Path) -> None:
    flags = flags_of(
        tmp_path,
        gpus_per_worker=2,
        cpus_per_worker=8,
        memory=32 << 30,
        time_limit=12 * 3600 + 90,
        grace_seconds=60.0,
        options={"partition": "gpu", "ntasks_per_node": "2", "exclusive": "yes", "qos": "high"},
    )
    assert flags[0] == "--job-name=digits"
    assert {
        f'--chdir="{tmp_path}"',
        "--open-mode=append",
        "--requeue",
        "--signal=TERM@60",
        "--ntasks=4",
        "--cpus-per-task=8",
        "--gpus-per-task=2",
        "--mem-per-cpu=4096M",
        "--time=721:30",
        "--partition=gpu",
        "--ntasks-per-node=2",
        "--exclusive",
        "--qos=high",
    } < set(flags)


def test_the_step_has_what_srun_does_not_take_from_the_job(tmp_path: Path) -> None:
    script = submission(
        tmp_path, cpus_per_worker=8, gpus_per_worker=1, options={"distribution": "cyclic"}
    ).files["job.sbatch"]
    for flag in (
        "--kill-on-bad-exit=1",
        "--cpus-per-task=8",
        "--gpus-per-task=1",
        "--distribution=cyclic",
    ):
        assert f"--srun={flag} " in script


def test_memory_that_is_no_multiple_is_rounded_up(tmp_path: Path) -> None:
    assert "--mem-per-cpu=334M" in flags_of(tmp_path, cpus_per_worker=3, memory=1000 << 20)


def test_without_requeue_a_preempted_job_ends(tmp_path: Path) -> None:
    files = submission(tmp_path, options={"requeue": "no"}).files
    assert "#SBATCH --no-requeue\n" in files["job.sbatch"]
    assert "--no_requeue" in files["job.sbatch"]


def test_a_job_array_has_an_output_for_each_member(tmp_path: Path) -> None:
    flags = flags_of(tmp_path, options={"array": "0-3%2"}, log_dir=tmp_path / "logs")
    assert f'--output="{tmp_path}/logs/batch-%a.log"' in flags
    assert "--array=0-3%2" in flags


def test_the_shell_passes_every_argument_on_as_it_is(tmp_path: Path) -> None:
    strange = ("a b", "$HOME", "it's", '"quoted"', "*", "", "line\nline", "-- x", "\\")
    python = tmp_path / "my python"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['A'], os.environ.get('TF_CONFIG')]))\n"
    )
    python.chmod(0o755)
    script = submission(
        tmp_path,
        command=strange,
        environment={"A": "x 'y' $Z"},
        options={"python": str(python)},
    ).files["job.sbatch"]
    done = subprocess.run(
        ["sh"], input=script, env={"TF_CONFIG": "{}"}, capture_output=True, text=True, check=True
    )
    arguments, variable, tf_config = json.loads(done.stdout)
    assert tuple(arguments[arguments.index("--") + 1 :]) == strange
    assert variable == "x 'y' $Z"
    assert tf_config is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_data_workers": 2}, r"`--num_data_workers` must be 0 .* Received: .*=2\. Give each"),
        ({"environment": {"TF_CONFIG": "{}"}}, r"`--env` must not set TF_CONFIG.* Received: --env"),
        (
            {"options": {"array": "3-1"}},
            r"`array` must have members\. Received: --option array=3-1",
        ),
        ({"options": {"array": "a"}}, r"`array` must be numbers .* Received: --option array=a"),
        ({"options": {"nodes": "0"}}, r"`nodes` must be a positive integer\. Received: .*nodes=0"),
        ({"options": {"exclusive": "1"}}, r"`exclusive` must be yes or no\. Received: .*=1\."),
        ({"options": {"partition": "a b"}}, r"`partition` must be a text without spaces"),
        ({"options": {"distribution": "arbitrary"}}, r"`distribution` must be block, cyclic or"),
        (
            {"options": {"nodes": "3", "ntasks_per_node": "2"}},
            r"`nodes` x `ntasks_per_node` must be .* 4\. Received: --option nodes=3 .* Leave one",
        ),
        ({"log_dir": Path("/a%b")}, r"`log_dir` must not contain '%'.*: log_dir='/a%b'"),
    ],
)
def test_what_slurm_cannot_do_is_refused_by_name(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        submission(tmp_path, **asked)


@pytest.mark.parametrize(
    ("variable", "asked"),
    [
        ("SBATCH_PARTITION", {"options": {"partition": "gpu"}}),
        ("SBATCH_TIMELIMIT", {"time_limit": 60.0}),
        ("SBATCH_EXPORT", {}),
        ("SBATCH_ARRAY_INX", {"options": {"array": "0-3"}}),
    ],
)
def test_a_variable_that_sbatch_prefers_to_the_script_is_refused(
    tmp_path: Path, variable: str, asked: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"`{variable}` must be unset: .*Received: {variable}=x"):
        submission(tmp_path, {variable: "x"}, **asked)


def test_a_variable_for_what_is_not_asked_is_the_users_default(tmp_path: Path) -> None:
    assert submission(tmp_path, {"SBATCH_ACCOUNT": "physics"}, options={"partition": "gpu"}).files


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("7", (7,)),
        ("0-3", (0, 1, 2, 3)),
        ("1,5,9-15:2%4", (1, 5, 9, 11, 13, 15)),
        ("4-6,5-7", (4, 5, 6, 7)),
    ],
)
def test_the_members_of_a_job_array(text: str, members: tuple[int, ...]) -> None:
    assert array_members(text) == members


@pytest.mark.parametrize(("printed", "number"), [("4711\n", "4711"), ("4711;cluster\n", "4711")])
def test_the_number_of_the_job_is_what_sbatch_prints(printed: str, number: str) -> None:
    assert Slurm({}).engine_id(printed) == number


def test_a_job_of_changing_size_takes_the_hosts_that_it_gets(tmp_path: Path) -> None:
    options = {"ntasks_per_node": "2", "distribution": "cyclic"}
    needs: dict[str, Any] = {"cpus_per_worker": 3, "gpus_per_worker": 1, "options": options}
    script = submission(tmp_path, num_workers=8, least_workers=4, **needs).files["job.sbatch"]
    lines = re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)
    assert {"--nodes=2-4", "--mincpus=6", "--cpus-per-task=3", "--no-kill"} < set(lines)
    assert "--gpus-per-node=2" in lines
    # With a number of tasks Slurm gives the least hosts only.
    assert not [line for line in lines if line.startswith(("--ntasks", "--gpus-per-task"))]
    assert "--least_workers=4" in script
    assert "--workers_per_host=2" in script
    assert "--srun=--distribution=cyclic" in script
    assert "--srun=--ntasks-per-node" not in script  # The batch job knows how many hosts are left.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_ps": 1}, r"`--num_ps` must be left out .*: --num_workers=2:4 --num_ps=1\."),
        ({"options": {"nodes": "2"}}, r"`--option nodes` must be left out .* --option nodes=2\."),
        (
            {"num_workers": 5, "options": {"ntasks_per_node": "2"}},
            r"`--num_workers` must be multiples .*=2:5 --option ntasks_per_node=2\. Choose",
        ),
    ],
)
def test_what_a_job_of_changing_size_cannot_have_is_refused(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        submission(tmp_path, **{"least_workers": 2, **asked})
