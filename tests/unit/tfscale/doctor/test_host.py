from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tfscale.doctor.host import examine_host, host_facts

HEALTHY = {
    "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n",
    "proc/self/cgroup": "0::/job\n",
    "sys/fs/cgroup/job/cpu.max": "max 100000\n",
    "sys/fs/cgroup/job/memory.max": "max\n",
    "sys/fs/cgroup/job/pids.max": "max\n",
}
LIMITS: Mapping[str, int | None] = {
    "open_files": 65536,
    "processes": None,
    "core_file_bytes": None,
    "locked_memory_bytes": None,
    "address_space_bytes": None,
}


def planted(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in {**HEALTHY, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def judged(
    root: Path,
    *,
    usable: int = 8,
    environ: Mapping[str, str] | None = None,
    limits: Mapping[str, int | None] | None = None,
) -> tuple[list[str], list[str]]:
    """The problems and the remarks, with their cures."""
    facts = host_facts(root, {**LIMITS, **(limits or {})})
    facts["cpus"] |= {"seen": 8, "usable": usable}
    findings = examine_host(facts, environ or {})
    return (
        [f"{each.found} {each.cure}" for each in findings if each.is_problem],
        [f"{each.found} {each.cure}" for each in findings if not each.is_problem],
    )


def test_a_healthy_host_has_no_findings(tmp_path: Path) -> None:
    assert judged(planted(tmp_path, {})) == ([], [])


V1 = {
    "proc/self/cgroup": "4:memory:/job\n3:pids:/job\n2:cpu,cpuacct:/job\n0::/\n",
    "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"sys/fs/cgroup/job/cpu.max": "50000 100000\n"}, "is 0.5 of a processor; 8 are seen."),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, "the quota of this control group is 1.5"),
        ({"proc/meminfo": "MemAvailable: 900000 kB\n"}, "Only 921.6 MB of memory is free;"),
        (
            {
                "sys/fs/cgroup/job/pids.max": "600\n",
                "sys/fs/cgroup/job/pids.current": "580\n",
            },
            "Only 20 more processes and threads may start in this control group",
        ),
        (
            {
                "sys/fs/cgroup/job/memory.max": "2000000000\n",
                "sys/fs/cgroup/job/memory.current": "1500000000\n",
            },
            "Only 500.0 MB of memory is free (the limit of this control group: 2.00 GB)",
        ),
        (
            {**V1, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "20000\n"},
            "is 0.2 of a processor; 8 are seen.",
        ),
    ],
)
def test_what_a_control_group_limits_too_much_is_a_problem(
    files: dict[str, str], problem: str, tmp_path: Path
) -> None:
    problems, _ = judged(planted(tmp_path, files))
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_group_of_version_1_without_limits_has_no_findings(tmp_path: Path) -> None:
    none = {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2**63 - 4096}\n"}
    root = planted(tmp_path, {**V1, **none})
    assert judged(root) == ([], [])
    assert host_facts(root)["memory"]["limit_bytes"] is None


@pytest.mark.parametrize(
    ("usable", "environ", "problems", "remarks"),
    [
        pytest.param(8, {}, 1, 0, id="four times as many threads"),
        pytest.param(6, {}, 0, 1, id="three times as many"),
        pytest.param(2, {}, 0, 1, id="only the affinity, which TensorFlow sees"),
        pytest.param(8, {"TF_NUM_INTRAOP_THREADS": "2"}, 0, 0, id="threads that fit"),
        pytest.param(8, {"TF_NUM_INTRAOP_THREADS": "16"}, 1, 0, id="too many on request"),
        pytest.param(8, {"TF_NUM_INTRAOP_THREADS": "two"}, 1, 0, id="no number"),
    ],
)
def test_threads_are_compared_with_the_quota(
    usable: int, environ: dict[str, str], problems: int, remarks: int, tmp_path: Path
) -> None:
    root = planted(tmp_path, {"sys/fs/cgroup/job/cpu.max": "200000 100000\n"})
    found = judged(root, usable=usable, environ=environ)
    assert [len(found[0]), len(found[1])] == [problems, remarks]
    if problems:
        assert "Set TF_NUM_INTRAOP_THREADS=2" in found[0][0]


@pytest.mark.parametrize(
    ("limits", "problems", "remarks"),
    [
        ({"open_files": 256}, ["may have 256 open files (ulimit -n)"], []),
        ({"open_files": 1024}, [], ["may have 1024 open files (ulimit -n)"]),
        ({"processes": 100}, ["may have 100 processes and threads (ulimit -u)"], []),
        ({"core_file_bytes": 0}, [], ["leaves no core file"]),
        ({"locked_memory_bytes": 65536}, [], []),
        ({"address_space_bytes": 8 << 30}, [], ["The address space is limited to 8.59 GB"]),
    ],
)
def test_limits_of_the_process_are_judged(
    limits: dict[str, int | None], problems: list[str], remarks: list[str], tmp_path: Path
) -> None:
    found = judged(planted(tmp_path, {}), limits=limits)
    for texts, words in zip(found, (problems, remarks), strict=True):
        assert len(texts) == len(words)
        assert all(word in text for text, word in zip(texts, words, strict=True))


def test_locked_memory_counts_where_infiniband_is(tmp_path: Path) -> None:
    root = planted(tmp_path, {"sys/class/infiniband/mlx5_0/node_type": "1: CA\n"})
    (problem,), _ = judged(root, limits={"locked_memory_bytes": 8 << 20})
    assert "may lock 8.4 MB of memory (ulimit -l), but mlx5_0" in problem
    assert judged(root) == ([], [])


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/job/memory.events": "oom 4\noom_kill 3\noom_group_kill 0\n"},
        {**V1, "sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0\noom_kill 3\n"},
    ],
    ids=["version 2", "version 1"],
)
def test_processes_that_were_killed_for_memory_are_told(
    files: dict[str, str], tmp_path: Path
) -> None:
    problems, (remark,) = judged(planted(tmp_path, files))
    assert problems == []
    assert "The kernel has killed 3 processes of this control group" in remark
