"""`tfscale data index` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import completed, own_environment
from tests.unit.tfscale.records.record_makers import read, write
from tfscale.records.index import read_index

SLOW_SCAN = """
import sys, time
from tfscale.records import indexing

def slow(source, say):
    print(source, flush=True)
    if source.endswith("0"):
        return fast(source, say)
    time.sleep(600)

fast, indexing.scanned = indexing.scanned, slow
if __name__ == "__main__":
    from tfscale.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, of 1, 2 and 3 records."""
    for number in range(3):
        write(tmp_path / f"a-{number}", [f"{number} {i}".encode() for i in range(number + 1)])
    return tmp_path


def index(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return completed("-m", "tfscale", "data", "index", *map(str, arguments), timeout=300)


def test_every_file_gets_its_index_and_a_line(folder: Path) -> None:
    done = index(folder / "a-*")
    assert (done.returncode, done.stderr) == (0, "")
    *lines, total = done.stdout.splitlines()
    assert lines == [
        f"{folder}/a-0: 1 record, 0.0 MiB, index written: {folder}/a-0.tfindex",
        f"{folder}/a-1: 2 records, 0.0 MiB, index written: {folder}/a-1.tfindex",
        f"{folder}/a-2: 3 records, 0.0 MiB, index written: {folder}/a-2.tfindex",
    ]
    assert total == "3 of 3 files indexed, 6 records, 0.0 MiB"
    for number in range(3):
        path = folder / f"a-{number}"
        found = read_index(Path(f"{path}.tfindex"), str(path))
        assert found.lengths.tolist() == [len(record) for record in read(path)]


def test_several_processes_write_the_same_indexes(folder: Path) -> None:
    for jobs in (1, 2):
        done = index(folder / "a-*", f"--index_dir={folder / str(jobs)}", f"--jobs={jobs}")
        assert (done.returncode, done.stderr) == (0, "")
    one, two = (
        {path.name: path.read_bytes() for path in (folder / jobs).iterdir()} for jobs in "12"
    )
    assert one == two
    assert len(one) == 3


def test_an_index_is_replaced_only_if_its_file_changed(folder: Path) -> None:
    assert index(folder / "a-*").returncode == 0
    before = (folder / "a-0.tfindex").stat().st_ino
    write(folder / "a-1", [b"other", b"records"])
    (folder / "a-2.tfindex").write_bytes(b"damaged")
    done = index(folder / "a-*", "--json")
    result = {Path(row["file"]).name: row for row in json.loads(done.stdout)["files"]}
    assert {name: row["outcome"] for name, row in result.items()} == {
        "a-0": "unchanged",
        "a-1": "replaced",
        "a-2": "replaced",
    }
    assert result["a-1"] == {
        "file": str(folder / "a-1"),
        "index": str(folder / "a-1.tfindex"),
        "outcome": "replaced",
        "records": 2,
        "bytes": (folder / "a-1").stat().st_size,
        "error": None,
    }
    assert (folder / "a-0.tfindex").stat().st_ino == before


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_damaged_file_is_named_and_the_others_are_indexed(folder: Path, jobs: str) -> None:
    content = (folder / "a-1").read_bytes()
    (folder / "a-1").write_bytes(content[:-5])
    done = index(folder / "a-*", "--json", f"--jobs={jobs}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"tfscale data index: Record 1 of {folder}/a-1 is damaged: ")
    assert done.stderr.count("\n") == 1
    rows = json.loads(done.stdout)["files"]
    assert [row["outcome"] for row in rows] == ["written", "failed", "written"]
    assert rows[1]["error"] in done.stderr
    assert not (folder / "a-1.tfindex").exists()
    assert index(folder / "a-*").stdout.splitlines()[-1].endswith("; 1 without an index")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-file"], "`files` must match at least one file"),
        (["{}/a-0", "{}/a-0"], "must name each file once"),
        (["{}/a-0", "--jobs=0"], "argument --jobs: must be a positive integer"),
        (["{}/a-0", "--index_dir={}/a-1/i"], "could not be written"),
        ([], "the following arguments are required: FILES"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = index(*(argument.format(folder) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_package_for_checksums_the_cure_is_named(folder: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['google_crc32c'] = None\n"
        "from tfscale.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = completed("-c", code, "data", "index", str(folder / "a-0"), timeout=300)
    assert done.returncode == 2
    assert "pip install 'tfscale[data]'" in done.stderr


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_complete_indexes_and_leaves_nothing_else(folder: Path, jobs: str) -> None:
    program = folder / "slow.py"
    program.write_text(SLOW_SCAN, "utf-8")
    write(folder / "a-0", [b"the largest file is the first for several processes"])
    names = ["a-0", "a-1"] if jobs == "1" else ["a-0", "a-1", "a-2"]
    files = [folder / name for name in names]
    process = subprocess.Popen(
        [sys.executable, program, "data", "index", *files, f"--jobs={jobs}"],
        env=own_environment(),
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    for _ in names:  # the first file is complete once the last is begun
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process
    assert process.wait(300) == 130
    assert process.stdout.read() == ""  # the end of the output: no process is left
    process.stdout.close()
    written = {path.name for path in folder.iterdir()} - {"a-1", "a-2", "slow.py"}
    assert written == {"a-0", "a-0.tfindex"}


def test_the_tools_are_listed_and_one_is_required() -> None:
    done = completed("-m", "tfscale", "data", timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "required: TOOL. See `tfscale data --help`." in done.stderr
    assert (
        "write the index of TFRecord files"
        in completed("-m", "tfscale", "data", "--help", timeout=300).stdout
    )


def test_an_index_is_made_without_tensorflow(folder: Path) -> None:
    code = (
        "import sys\n"
        "from tfscale.__main__ import main\n"
        "main(sys.argv[1:])\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = completed("-c", code, "data", "index", str(folder / "a-0"), timeout=300)
    assert done.stdout.splitlines()[-1] == "set()"
