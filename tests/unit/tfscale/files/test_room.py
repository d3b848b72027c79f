from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.files.room import free_memory, is_in_memory

MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n"


def written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_free_memory_is_what_the_system_has(tmp_path: Path) -> None:
    assert free_memory(written(tmp_path, {"proc/meminfo": MEMINFO})) == 4000 * 1024


def test_a_limit_of_the_group_or_of_one_above_counts(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/jobs/mine\n",
        "sys/fs/cgroup/jobs/mine/memory.max": "max\n",
        "sys/fs/cgroup/jobs/mine/memory.current": "77\n",
        "sys/fs/cgroup/jobs/memory.max": "1000000\n",
        "sys/fs/cgroup/jobs/memory.current": "900000\n",
        "sys/fs/cgroup/jobs/memory.stat": "anon 1\ninactive_file 50000\nactive_file 7\n",
    }
    assert free_memory(written(tmp_path, files)) == 150_007


def test_in_a_container_the_mount_is_the_group_itself(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/path/of/the/host\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 20\n",
    }
    assert free_memory(written(tmp_path, files)) == 500_020


def test_a_system_that_does_not_say_gives_none(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "found"), [("/dev/shm/a", True), ("/dev/shmother", False), ("/data/x", False)]
)
def test_a_folder_in_memory_is_that_of_the_longest_mount(
    path: str, *, found: bool, tmp_path: Path
) -> None:
    mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n/dev/vdb /data xfs rw 0 0\n"
    assert is_in_memory(Path(path), written(tmp_path, {"proc/self/mounts": mounts})) is found
