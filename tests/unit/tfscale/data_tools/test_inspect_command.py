"""`tfscale data inspect` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from tests.programs import completed, own_environment
from tests.unit.tfscale.records.packed_sets import example, packed_set, write_records
from tfscale.__main__ import main
from tfscale.data.packing.converting import convert

SLOW = """
import sys, time
from tfscale.records import content

def slow(file, path, container, compression, *, keep):
    print("reading", flush=True)
    time.sleep(600)
    yield

content._records = slow
if __name__ == "__main__":
    from tfscale.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packed_set(tmp_path / "set")
    return tmp_path / "set"


def inspected(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str, list[str]]:
    """Returns exit status, output and the lines of errors of a run in this process."""
    status = main(["data", "inspect", *map(str, arguments), "--jobs=1"])
    printed = capsys.readouterr()
    return status, printed.out, printed.err.splitlines()


def test_an_intact_set_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, output, errors = inspected(capsys, folder, "--examples=2")
    assert (status, errors) == (0, [])
    bar = "█" * 24
    assert output.splitlines() == [
        f"{folder}: 4 files, 0.01 MiB",
        "container: tfrecord",
        "examples: 100",
        "split: train",
        "classes: 2: cat, dog",
        "source: 100 images for a test",
        "fingerprint: numbers 0 to 99",
        "",
        "features:",
        "  image  uint8 [8, 8]  raw",
        "  label  int64 []      int64",
        "",
        "files:",
        *(
            f"  train-{number:05d}-of-00004.tfrecord  25 examples  2,825 bytes  {bar}  good"
            for number in range(4)
        ),
        "",
        "first examples:",
        "  0: image: uint8 8x8; label: 0 (cat)",
        "  1: image: uint8 8x8; label: 1 (dog)",
        "",
        "verified: 4 of 4 files intact",
    ]


def test_each_problem_is_one_line_with_its_cure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, _ = sorted(folder.glob("*.tfrecord"))
    first.write_bytes(first.read_bytes()[:1000])
    second.unlink()
    Path(f"{third}.tfindex").unlink()
    status, output, errors = inspected(capsys, folder, "--json")
    assert status == 1
    cure = "Restore it from a copy, or run with --repair --source=SOURCE."
    assert errors == [
        f"tfscale data inspect: {first.name} is truncated: it has 1,000 of 2,825 bytes. {cure}",
        f"tfscale data inspect: {second.name} is missing. {cure}",
        f"tfscale data inspect: The index {third.name}.tfindex is missing; the shard is good. Run "
        "with --repair: it is written again from the shard.",
    ]
    found = json.loads(output)
    assert found["intact"] is False
    assert [(row["state"], row["size"]) for row in found["files"]] == [
        ("truncated", 1000),
        ("missing", None),
        ("no index", 2825),
        ("good", 2825),
    ]
    assert found["examples"][0] == {"image": "uint8 8x8", "label": "0 (cat)"}


def test_what_needs_no_source_is_repaired_without_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first, second, third, fourth = sorted(folder.glob("*.tfrecord"))
    first.rename(folder / "other")
    second.rename(first)
    (folder / "other").rename(second)
    third.rename(folder / "third")
    Path(f"{fourth}.tfindex").unlink()
    status, output, errors = inspected(capsys, folder, "--repair")
    assert status == 0
    assert output.endswith("verified: 4 of 4 files intact\n")
    assert sorted(errors) == [
        f"tfscale data inspect: {path.name} is back in its place" for path in (first, second, third)
    ] + [f"tfscale data inspect: {fourth.name} has its index again"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("container", "compression"),
    [("tfrecord", None), ("tfrecord", "GZIP"), ("array_record", "zstd")],
)
def test_files_without_a_manifest_are_read_as_far_as_possible(
    tmp_path: Path,
    container: str,
    compression: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a"
    write_records(path, [example(number) for number in range(7)], container, compression)
    status, output, errors = inspected(capsys, path, "--json")
    assert (status, errors) == (0, [])
    found = json.loads(output)
    kind = "tfrecord GZIP" if compression == "GZIP" else container
    assert (found["facts"]["container"], found["facts"]["examples"]) == (kind, 7)
    assert found["features"] == [
        {"name": "image", "type": "bytes", "storage": "in 5 of the first 5"},
        {"name": "label", "type": "int64", "storage": "in 5 of the first 5"},
    ]
    assert found["examples"][1] == {"image": "64 bytes", "label": "1"}
    (tmp_path / "b").write_bytes(path.read_bytes()[:-3])
    (tmp_path / "c").write_bytes(path.read_bytes())
    status, output, errors = inspected(capsys, tmp_path / "[abc]", "--json")
    assert status == 1
    states = [row["state"] for row in json.loads(output)["files"]]
    assert states == ["good", "damaged", "duplicated"]
    assert len(errors) == 2


def test_names_and_values_of_a_record_cannot_change_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["\x1b[2J", *map(str, range(20))]
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\x1b]0;a\x07"]))
    features = tf.train.Features(feature=dict.fromkeys(names, value))
    record = tf.train.Example(features=features).SerializeToString()
    path = tmp_path / os.fsdecode(b"\xff\x1b[1m")
    write_records(tmp_path / "a", [record], "tfrecord", "GZIP")
    (tmp_path / "a").rename(path)
    status, output, errors = inspected(capsys, path)
    assert (status, errors) == (0, [])
    assert output.isascii() or set(output) - set(map(chr, range(128))) <= set("█…")
    assert "\x1b" not in output
    assert "\\udcff\\x1b[1m: 1 file" in output
    assert "; … (21 parts)" in output


def test_a_set_of_records_shows_what_the_records_contain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "a", [example(3)], "tfrecord", None)
    write_records(tmp_path / "b", [b"some text"], "tfrecord", None)
    for name in ("a", "b"):
        convert(tmp_path / name, tmp_path / f"{name}-set")
    status, output, _ = inspected(capsys, tmp_path / "a-set")
    assert status == 0
    assert "  record  string []  record\n" in output
    assert "  0: image: 64 bytes; label: 1\n" in output
    assert "  0: record: some text\n" in inspected(capsys, tmp_path / "b-set")[1]


def test_more_files_than_fit_are_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        write_records(tmp_path / f"{number:02d}.tfrecord", [b"%d" % number], "tfrecord", None)
    status, output, _ = inspected(capsys, tmp_path / "*.tfrecord", "--examples=0")
    assert status == 0
    assert "smallest 17 bytes, mean 18 bytes, largest 18 bytes" in output
    assert len(output.splitlines()) < 15


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{}/no-folder"], 2, "`files` must match at least one file"),
        (["{}"], 2, "without manifest.json"),
        (["{}/set", "--html={}/set/manifest.json"], 2, "`output` must be a new file"),
        (["{}/set", "--html={}/no/folder/a.html"], 2, "No such file or directory"),
        (["{}/set/train-*.tfrecord", "--repair"], 2, "`--repair` needs the folder of one packed"),
        (["{}/set", "--examples=-1"], 2, "argument --examples: must be"),
    ],
)
def test_wrong_usage_is_one_line(
    folder: Path,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        found, output, errors = inspected(capsys, *(of.format(folder.parent) for of in arguments))
    except SystemExit as error:  # of argparse
        found, output, errors = int(str(error.code)), "", capsys.readouterr().err.splitlines()
    assert (found, output, len(errors)) == (status, "", 1)
    assert message in errors[0]


def test_a_damaged_manifest_is_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text("utf-8").replace("cat", "cow"), "utf-8")
    status, output, errors = inspected(capsys, folder)
    assert (status, output) == (1, "")
    assert "does not match its checksum" in errors[0]


def test_a_folder_that_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    first = min(folder.glob("*.tfrecord"))
    first.rename(folder / "other")
    monkeypatch.setattr(Path, "rename", refused)
    status, output, errors = inspected(capsys, folder, "--repair")
    assert (status, output) == (2, "")
    assert errors == [
        f"tfscale data inspect: {folder} could not be repaired: Permission denied. Check its "
        "permissions and the room on its disk, and run it again."
    ]


def test_the_page_shows_images_and_escapes_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = tf.io.encode_png(tf.zeros([300, 20, 3], tf.uint8)).numpy()
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
        "broken": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png[:50]])),
        "<b>": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[b"<script>alert(1)</script>"])
        ),
    }
    record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    write_records(tmp_path / "a", [record] * 3, "tfrecord", None)
    page = tmp_path / "a.html"
    status, _, errors = inspected(capsys, tmp_path / "a", f"--html={page}", "--examples=2")
    assert (status, errors) == (0, [])
    text = page.read_text("utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert text.count('<img src="data:image/png;base64,') == 2
    assert "style-src 'unsafe-inline'; img-src data:" in text
    assert "Size by file" in text
    # Over an earlier page, with more files than bars.
    for number in range(50):
        write_records(tmp_path / f"{number}.tfrecord", [b"%d" % number], "tfrecord", None)
    assert inspected(capsys, tmp_path / "*.tfrecord", f"--html={page}")[0] == 0
    assert 'id="sizes-title"' in page.read_text("utf-8")


def test_without_a_page_tensorflow_is_not_needed(folder: Path) -> None:
    code = (
        "import sys\n"
        "from tfscale.__main__ import main\n"
        "main(sys.argv[1:])\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = completed("-c", code, "data", "inspect", str(folder), timeout=300)
    assert done.stdout.splitlines()[-2:] == ["verified: 4 of 4 files intact", "set()"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_without_the_package_of_the_container_the_cure_is_named(tmp_path: Path, jobs: str) -> None:
    packed_set(tmp_path / "set", "array_record", "zstd")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "sys.modules['array_record'] = None\n"
        "if __name__ == '__main__':\n"
        "    from tfscale.__main__ import main\n"
        "    sys.exit(main(sys.argv[1:]))",
        "utf-8",
    )
    command = [str(program), "data", "inspect", str(tmp_path / "set"), f"--jobs={jobs}"]
    done = completed(*command, timeout=300)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'tfscale[data]'" in done.stderr


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_all_processes(folder: Path, jobs: str) -> None:
    program = folder.parent / "slow.py"
    program.write_text(SLOW, "utf-8")
    process = subprocess.Popen(
        [sys.executable, program, "data", "inspect", folder, f"--jobs={jobs}"],
        env=own_environment(),
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process
    assert process.wait(300) == 130
    assert set(process.stdout.read().split()) <= {"reading"}  # the end: no process is left
    process.stdout.close()
