"""`tfscale bench all_reduce`: real ranks, small sizes. Each program checks its sums itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec

import pytest

from tests.programs import completed
from tfscale.bench.collectives.reduction import (
    Reduction,
    calls_of,
    check_sum,
    size_name,
    size_of,
)
from tfscale.bench.peers.environment import reason_missing


def rows(*flags: str) -> Sequence[dict[str, object]]:
    command = ("-m", "tfscale", "bench", "all_reduce", "--json", "--rounds=2", "--threads=2")
    done = completed(*command, *flags, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found: Sequence[dict[str, object]] = json.loads(done.stdout)["rows"]
    return found


@pytest.mark.thorough
def test_engines_of_tensorflow_and_the_limits_have_a_row_for_each_size() -> None:
    found = rows("--sizes=4KB,1MB", "--engines=tensorflow,ring,tcp,memcpy")
    assert [(row["group"], row["name"], row["peer"], row["limit"]) for row in found[:4]] == [
        ("4 KB", "tensorflow, 4 KB", None, "tcp, 4 KB"),
        ("4 KB", "ring, 4 KB", "tensorflow, 4 KB", "tcp, 4 KB"),
        ("4 KB", "tcp, 4 KB", None, None),
        ("4 KB", "memcpy, 4 KB", None, None),
    ]
    assert [row["group"] for row in found[4:]] == ["1 MB"] * 4
    values = {row["name"]: row["value"]["median"] for row in found}  # type: ignore[index]
    for size in ("4 KB", "1 MB"):  # by a factor of 100, so on a busy machine too
        assert values[f"memcpy, {size}"] < values[f"ring, {size}"]


@pytest.mark.parametrize(("engine", "package"), [("gloo", "torch"), ("mpi4py", "mpi4py")])
def test_a_peer_adds_up(engine: str, package: str) -> None:
    if reason := reason_missing(package):
        pytest.skip(reason)
    (row,) = rows("--sizes=4KB", f"--engines={engine}")
    assert row["name"] == f"{engine}, 4 KB"
    assert row["skipped"] == ""
    assert row["value"]["median"] > 0  # type: ignore[index]


@pytest.mark.thorough
@pytest.mark.skipif(find_spec("mpi4py") is None, reason="mpi4py is not installed here")
def test_our_engine_of_mpi_adds_up_beside_the_ring() -> None:
    ring, mpi = rows("--sizes=25MB", "--engines=ring,mpi")
    assert (mpi["peer"], mpi["limit"], mpi["goal"]) == ("tensorflow, 25 MB", "memcpy, 25 MB", 0.4)
    assert mpi["value"]["median"] < ring["value"]["median"]  # type: ignore[index]


def test_three_workers_pass_the_bytes_around_a_ring() -> None:
    (row,) = rows("--sizes=1MB", "--engines=tcp", "--num_workers=3")
    assert row["value"]["median"] > 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes=4"], "must be a whole number of KB or MB. Received: '4'. Example: 25MB"),
        (["--sizes=4KB,0MB"], "must be a whole number of KB or MB. Received: '0MB'."),
        (["--engines=ring,horovod"], "must be different names of tensorflow, ring, mpi, gloo"),
        (["--num_workers=0"], "must be a positive integer. Received: '0'"),
    ],
)
def test_wrong_flags_are_wrong_usage(flags: list[str], message: str) -> None:
    done = completed("-m", "tfscale", "bench", "all_reduce", *flags, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(("text", "size"), [("1KB", 1024), ("25MB", 25 * 1024**2), ("3kb", 3072)])
def test_sizes_have_names(text: str, size: int) -> None:
    assert size_of(text) == size
    assert size_name(size).replace(" ", "") == text.upper()


def test_a_turn_moves_about_as_many_bytes_for_every_size_but_the_small_ones() -> None:
    sizes = [2**10, 2**20, 25 * 2**20, 100 * 2**20, 2**31]
    assert [calls_of(size) for size in sizes] == [100, 100, 5, 2, 2]


def test_a_wrong_sum_is_an_error() -> None:
    check_sum(3.0, 2)
    with pytest.raises(RuntimeError, match=r"The sum over 2 ranks must be 3.0. Received: 2.0"):
        check_sum(2.0, 2)


def test_settings_survive_json() -> None:
    reduction = Reduction((1024, 2048), 3, 4, 60.0, 120.0)
    assert Reduction.from_json(reduction.to_json()) == reduction
    assert [reduction.threads_of(n) for n in (0, 1, 2, 8)] == [4, 4, 2, 1]
