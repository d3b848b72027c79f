"""Checkpoints on a disk: complete or absent, and always verified when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.programs import completed
from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.tensors import Values


def content(batches: int, **arrays: np.ndarray) -> Content:
    tensors = {name: Values(array) for name, array in arrays.items()}
    tensors.setdefault("w", Values(np.full([3], float(batches))))
    return Content(Position(0, batches, batches), {"num_replicas": 2}, tensors, {"A": {"best": 1}})


def saved(folder: Path, *batches: int, keep: int | None = None) -> CheckpointDirectory:
    directory = CheckpointDirectory(folder)
    for number in batches:
        directory.save(content(number), keep)
    return directory


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def step(folder: Path, number: int) -> Path:
    return folder / f"step-{number:012d}"


def test_every_dtype_and_shape_comes_back_to_the_bit(tmp_path: Path) -> None:
    arrays = {
        "double": np.array([[np.pi, -0.0], [np.nan, np.inf]]),
        "half": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3),
        "count": np.array(2**62, np.int64),
        "flag": np.array([True, False]),
        "empty": np.zeros([0, 4], np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "big endian": np.arange(3, dtype=">i4"),
    }
    directory = CheckpointDirectory(tmp_path)
    directory.save(content(7, **arrays))
    found = directory.newest()
    assert found is not None
    assert (found.position, found.topology) == (Position(0, 7, 7), {"num_replicas": 2})
    assert found.callbacks == {"A": {"best": 1}}
    for name, array in arrays.items():
        read = found.tensors[name].array
        assert read.shape == array.shape
        assert read.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
        assert read.dtype.name == array.dtype.name


def test_each_replicas_value_is_a_slice_of_its_own(tmp_path: Path) -> None:
    state = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    made = Content(Position(0, 1, 1), {}, {"m": Values(state, is_per_replica=True)}, {})
    directory = CheckpointDirectory(tmp_path)
    directory.save(made)
    found = directory.newest()
    assert found is not None
    assert found.tensors["m"].is_per_replica
    np.testing.assert_array_equal(found.tensors["m"].array, state)
    stored = json.loads((step(tmp_path, 1) / "manifest.json").read_text())["tensors"]["m"]
    places = [(part["offset"], part["start"], part["shape"]) for part in stored["slices"]]
    assert places == [(0, [0, 0], [1, 2]), (8, [1, 0], [1, 2])]


def test_slices_of_several_files_make_one_tensor(tmp_path: Path) -> None:
    """As sharded state will be written: the left and the right half of [[1, 2], [3, 4]]."""
    import hashlib
    import zlib

    directory = saved(tmp_path, 1)
    left, right = np.array([1.0, 3.0]).tobytes(), np.array([2.0, 4.0]).tobytes()
    (step(tmp_path, 1) / "left.bin").write_bytes(b"before" + left)
    (step(tmp_path, 1) / "right.bin").write_bytes(right)
    path = step(tmp_path, 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    parts = [("left.bin", 6, [0, 0], left), ("right.bin", 0, [0, 1], right)]
    manifest["tensors"]["table"] = {
        "dtype": "float64",
        "shape": [2, 2],
        "is_per_replica": False,
        "slices": [
            {"file": f, "offset": o, "start": s, "shape": [2, 1], "crc32": zlib.crc32(data)}
            for f, o, s, data in parts
        ],
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))
    found = directory.newest()
    assert found is not None
    np.testing.assert_array_equal(found.tensors["table"].array, [[1, 2], [3, 4]])


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("file", ["manifest.json", "tensors-00000.bin"])
@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, file: str, damage: object, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = saved(tmp_path, 2, 4)
    damage(step(tmp_path, 4) / file)  # type: ignore[operator]
    found = directory.newest()
    assert found is not None
    assert found.position.batches == 2
    said = capfd.readouterr().err
    assert "step-000000000004 is damaged" in said
    assert "Using the previous one" in said


def test_where_all_are_damaged_training_does_not_start_from_step_0(tmp_path: Path) -> None:
    directory = saved(tmp_path, 2)
    cut_short(step(tmp_path, 2) / "tensors-00000.bin")
    with pytest.raises(ValueError, match=r"all 1 are damaged\. Restore one from a backup"):
        directory.newest()


def test_an_empty_folder_and_none_hold_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointDirectory(tmp_path).newest() is None
    assert CheckpointDirectory(tmp_path / "none").newest() is None


def test_older_ones_go_when_there_are_enough(tmp_path: Path) -> None:
    saved(tmp_path, 2, 4, 6, keep=2)
    assert names(tmp_path) == ["step-000000000004", "step-000000000006"]
    saved(tmp_path, 8, keep=1)
    assert names(tmp_path) == ["step-000000000008"]


def test_a_damaged_one_does_not_take_the_place_of_a_whole_one(tmp_path: Path) -> None:
    directory = saved(tmp_path, 2, 4, 6)
    cut_short(step(tmp_path, 6) / "tensors-00000.bin")
    assert directory.newest().position.batches == 4  # type: ignore[union-attr]
    directory.save(content(7), keep=2)
    assert directory.steps() == [4, 7]


def test_the_same_step_replaces_a_damaged_one(tmp_path: Path) -> None:
    directory = saved(tmp_path, 2, 4)
    cut_short(step(tmp_path, 4) / "manifest.json")
    assert directory.newest().position.batches == 2  # type: ignore[union-attr]
    directory.save(content(4), keep=2)
    assert directory.newest().position.batches == 4  # type: ignore[union-attr]
    assert names(tmp_path) == ["step-000000000002", "step-000000000004"]


def test_what_a_killed_process_left_is_no_checkpoint_and_in_nobodys_way(tmp_path: Path) -> None:
    directory = saved(tmp_path, 2)
    for left in (".step-000000000003.partial", ".step-000000000004.partial", ".step-1.removed"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "tensors-00000.bin").write_bytes(b"half")
    assert directory.newest().position.batches == 2  # type: ignore[union-attr]
    directory.save(content(4))
    assert names(tmp_path) == ["step-000000000002", "step-000000000004"]


def test_a_link_in_a_checkpoints_place_is_removed_and_what_it_points_to_stays(
    tmp_path: Path,
) -> None:
    saved(tmp_path / "other", 2)
    directory = saved(tmp_path / "run", 1)
    step(tmp_path / "run", 2).symlink_to(step(tmp_path / "other", 2))
    (tmp_path / "run" / ".step-000000000001.removed").symlink_to(tmp_path / "other")
    found = directory.newest()
    assert found is not None
    assert found.position.batches == 1
    directory.save(content(3), keep=1)
    assert directory.steps() == [3]
    assert CheckpointDirectory(tmp_path / "other").newest() is not None


def test_a_remote_directory_without_a_manifest_is_not_used() -> None:
    import tensorflow as tf

    directory = CheckpointDirectory("ram://checkpoints/run")
    directory.save(content(2))
    directory.save(content(4), keep=2)
    assert directory.newest().position.batches == 4  # type: ignore[union-attr]
    tf.io.gfile.remove("ram://checkpoints/run/step-000000000004/manifest.json")
    found = directory.newest()
    assert found is not None
    assert found.position.batches == 2
    np.testing.assert_array_equal(found.tensors["w"].array, [2.0, 2.0, 2.0])
    directory.save(content(6), keep=1)
    assert directory.steps() == [6]


def test_only_names_as_they_are_written_count(tmp_path: Path) -> None:
    directory = saved(tmp_path, 2, 4)
    for other in (
        "step-0000000000004",
        "step-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661",
    ):
        (tmp_path / other).mkdir()
    assert directory.steps() == [2, 4]
    saved(tmp_path, 6, keep=2)
    assert directory.steps() == [4, 6]


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.zeros(2, "M8[s]")], ids=str
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, array: np.ndarray) -> None:
    directory = saved(tmp_path, 2)
    with pytest.raises(ValueError, match=r"must be numeric\. Received: 'w' of"):
        directory.save(content(4, w=array))
    assert directory.steps() == [2]


def test_the_manifest_is_written_last() -> None:
    import tensorflow as tf

    class Torn:
        """Cannot be read: stands in for a process that dies within the data."""

        is_per_replica = False

        @property
        def array(self) -> np.ndarray:
            files.extend(tf.io.gfile.listdir("ram://torn/run/step-000000000002"))
            raise OSError("killed")

    files: list[str] = []
    directory = CheckpointDirectory("ram://torn/run")
    tensors: Any = {"w": Values(np.zeros(3)), "torn": Torn()}
    torn = Content(Position(0, 2, 2), {}, tensors, {})
    with pytest.raises(OSError, match="could not be written"):
        directory.save(torn)
    assert files == ["tensors-00000.bin"]
    assert directory.steps() == []


# The limit on the size of a file stands in for a full disk.
FULL_DISK = """
import resource, signal, sys
import numpy as np
from tfscale.checkpoints import CheckpointDirectory, Content, Position
from tfscale.checkpoints.tensors import Values

def content(batches):
    return Content(Position(0, batches, batches), {}, {"w": Values(np.ones(100_000))}, {})

directory = CheckpointDirectory(sys.argv[1])
directory.save(content(2), keep=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    directory.save(content(4), keep=1)
except OSError as error:
    print(error)
print(directory.newest().position.batches, "tensorflow" in sys.modules)
"""


def test_a_full_disk_is_a_clear_error_and_earlier_checkpoints_are_whole(tmp_path: Path) -> None:
    done = completed("-c", FULL_DISK, str(tmp_path), timeout=120)
    assert done.returncode == 0, done.stderr
    error, rest = done.stdout.splitlines()
    assert error.startswith(f"The checkpoint after 4 batches could not be written to {tmp_path}: ")
    assert "Earlier ones are intact. Free disk space" in error
    assert rest.startswith("2 ")
    assert names(tmp_path) == ["step-000000000002"]


def test_a_later_format_is_refused_rather_than_taken_for_damaged(tmp_path: Path) -> None:
    import hashlib

    directory = saved(tmp_path, 2)
    path = step(tmp_path, 2) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    manifest["version"] = 2
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
    with pytest.raises(ValueError, match=r"`version` of a checkpoint must be 1\. Received"):
        directory.newest()
