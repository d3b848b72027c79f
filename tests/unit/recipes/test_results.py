from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from recipes import results
from tests.programs import completed, forked
from tfscale.report.record import RunRecord

RECORD = RunRecord(title="a run")
FILES = ["model.keras", "report.html", "run.json", "summary.json"]


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def test_the_model_and_the_summary_are_read_back_unchanged(
    model: keras.Model, tmp_path: Path
) -> None:
    folder = tmp_path / "a" / "b"
    results.make_writable(str(folder))
    results.write(str(folder), model, {"accuracy": np.float32(0.5), "flags": {"tpu": None}}, RECORD)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    rows = np.ones((4, 3), np.float32)
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(loaded(rows), model(rows))
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary == {"accuracy": 0.5, "flags": {"tpu": None}}


def test_a_later_run_replaces_an_earlier_one(model: keras.Model, tmp_path: Path) -> None:
    for accuracy in (0.5, 0.75):
        results.write(str(tmp_path), model, {"accuracy": accuracy}, RECORD)
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == {"accuracy": 0.75}


def test_remote_file_systems_are_written_to(model: keras.Model) -> None:
    results.make_writable("ram://results/run")
    results.write("ram://results/run", model, {"accuracy": 0.5}, RECORD)
    import tensorflow as tf

    assert sorted(tf.io.gfile.listdir("ram://results/run")) == FILES


def test_a_deleted_folder_gives_one_clear_error(model: keras.Model, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with pytest.raises(OSError, match=r"could not be written to .*gone: .*Make room"):
        results.write(str(folder), model, {}, RECORD)


def test_checking_whether_a_folder_is_writable_leaves_no_file(tmp_path: Path) -> None:
    results.make_writable(str(tmp_path / "new"))
    assert [*(tmp_path / "new").iterdir()] == []


def test_a_failure_between_two_files_leaves_both_unchanged(
    model: keras.Model, tmp_path: Path
) -> None:
    results.write(str(tmp_path), model, {"run": "earlier"}, RECORD)
    before = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "metrics.csv").mkdir()  # In the way of the last file.
    with pytest.raises(OSError, match=r"could not be written to .*metrics.csv: it is a folder"):
        results.write(str(tmp_path), model, {"run": "later"}, RECORD, {"metrics.csv": ""})
    (tmp_path / "metrics.csv").rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert (tmp_path / "model.keras").read_bytes() == before
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == {"run": "earlier"}


@pytest.mark.parametrize("name", [*FILES, "metrics.csv"])
def test_a_link_in_the_place_of_a_result_is_refused_before_training(
    tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(mine)
    with pytest.raises(ValueError, match=rf"run/{name}: it is a link to {mine}; name"):
        results.make_writable(str(tmp_path / "run"), "metrics.csv")
    assert mine.read_text() == "mine"
    assert (tmp_path / "run" / name).is_symlink()


# The limit on the size of a file acts like a full disk: both fail in the middle of a write, the
# first of the model's 360 kB, the second of the summary's 2 MB.
FULL_DISK = """
import resource, signal, sys
import keras
from recipes import results
from tfscale.report.record import RunRecord

RECORD = RunRecord(title="a run")

def limit(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

folder, size = sys.argv[1], int(sys.argv[2])
model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
results.write(folder, model, {"run": "earlier"}, RECORD)
limit(size)
try:
    results.write(folder, model, {"run": "later", "long": "x" * 2_000_000}, RECORD)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_a_full_disk_leaves_the_earlier_results_and_no_half_file(tmp_path: Path, size: int) -> None:
    done = completed(*forked("-c", FULL_DISK, str(tmp_path), str(size)), timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"The results could not be written to {tmp_path}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert json.loads((tmp_path / "summary.json").read_text("utf-8")) == {"run": "earlier"}
    assert keras.saving.load_model(tmp_path / "model.keras").count_params() == 301 * 300
