"""The result of reading a damaged checkpoint, judged independently of the reader."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import signal
import zlib
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from tests.checkpoint_damage.accidents import Scene
from tests.checkpoint_damage.made import MANIFEST, NEWEST, STEPS, callbacks, content, name
from tfscale.checkpoints import CheckpointDirectory, Content
from tfscale.checkpoints.callback_state import check_callback_states, restore_callbacks

ITEM_BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8", "int4", "uint4"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
DEADLINE_SECONDS = 10
_LATER = "`version` of a checkpoint must be"
_OWN_NAMES = {"wait", "stopped_epoch", "best", "best_epoch", "cooldown_counter", "best_weights"}


class Wrong(AssertionError):
    """Something that must never happen: wrong content, an unknown error, a write, a wait."""


def outcome(scene: Scene, *, is_forged: bool) -> str:
    """Reads a run after damage as `fit` does.

    Returns:
        "as written", "damaged", "as described" (of forgeries), or "a later version".

    Raises:
        Wrong: If something else happened.
    """
    before = _tree(scene)
    trained = callbacks()
    directory = CheckpointDirectory(scene.root)
    earlier = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(DEADLINE_SECONDS)
    try:
        with redirect_stderr(io.StringIO()) as said:
            found = directory.newest(lambda read: check_callback_states(trained, read))
    except ValueError as error:
        if is_forged and str(error).startswith(_LATER):
            return "a later version"
        raise Wrong(f"raised {type(error).__name__}: {error}") from error
    except Exception as error:
        raise Wrong(f"raised {type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
        if _tree(scene) != before:
            raise Wrong("reading changed a file")
    if found is None:
        raise Wrong("found no checkpoint")
    if found.position.batches == STEPS[0]:
        if not _are_equal(found, content(STEPS[0])):
            raise Wrong("the older checkpoint has other content")
        # If the folder was renamed, there is no checkpoint to fall back from.
        if "is damaged" not in said.getvalue():
            raise Wrong("fell back without a warning")
        return "damaged"
    _restore(trained, found)
    if _are_equal(found, content(NEWEST)):
        return "as written"
    if not is_forged:
        raise Wrong("loaded other content than was written")
    _require_described(scene.newest, found)
    return "as described"


def _restore(trained: list[Any], found: Content) -> None:
    """Restores the callbacks' states, and compares all their other attributes."""
    others = [_others(callback) for callback in trained]
    try:
        restore_callbacks(trained, found.callbacks, found.tensors)
    except ValueError as error:
        if "must be of the shapes" not in str(error):  # the weights of another model
            raise Wrong(f"restoring raised {error}") from error
    except Exception as error:
        raise Wrong(f"restoring raised {type(error).__name__}: {error}") from error
    if [_others(callback) for callback in trained] != others:
        raise Wrong("an attribute was set")


def _others(callback: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(callback).items() if name not in _OWN_NAMES}


def _are_equal(one: Content, other: Content) -> bool:
    def plain(of: Content) -> Any:
        values = {
            key: (v.array.dtype.name, v.array.shape, v.is_per_replica, v.array.tobytes())
            for key, v in of.tensors.items()
        }
        return (of.position, json.dumps([of.topology, of.callbacks], sort_keys=True), values)

    return bool(plain(one) == plain(other))


def _require_described(folder: Path, found: Content) -> None:
    """Looks up each element of each tensor separately, in the bytes that the manifest names."""
    manifest = json.loads((folder / MANIFEST).read_text())
    if vars(found.position) != manifest["position"]:
        raise Wrong("another position than the manifest's")
    for mine, theirs in ((found.topology, "topology"), (found.callbacks, "callbacks")):
        if json.dumps(mine) != json.dumps(manifest[theirs]):
            raise Wrong(f"other {theirs} than the manifest's")
    if found.tensors.keys() != manifest["tensors"].keys():
        raise Wrong("other tensors than the manifest's")
    for key, tensor in manifest["tensors"].items():
        values = found.tensors[key]
        array, item = values.array, ITEM_BYTES[tensor["dtype"]]
        described = (tensor["dtype"], tensor["shape"], tensor["is_per_replica"])
        if (array.dtype.name, list(array.shape), values.is_per_replica) != described:
            raise Wrong(f"{key} is not what the manifest describes")
        seen = set()
        for part in tensor["slices"]:
            if part["file"] not in [path.name for path in folder.iterdir()]:
                raise Wrong(f"{key} was read from {part['file']}")
            size = math.prod(part["shape"]) * item
            data = (folder / part["file"]).read_bytes()[part["offset"] :][:size]
            if len(data) != size or zlib.crc32(data) != part["crc32"]:
                raise Wrong(f"{key} was loaded against its checksum")
            for i, inner in enumerate(itertools.product(*map(range, part["shape"]))):
                index = tuple(a + b for a, b in zip(part["start"], inner, strict=True))
                if index in seen or array[index].tobytes() != data[i * item : (i + 1) * item]:
                    raise Wrong(f"{key}{list(index)} is not the element that was described")
                seen.add(index)
        if len(seen) != array.size:
            raise Wrong(f"{key} has elements that nothing describes")


def _tree(scene: Scene) -> list[Any]:
    """Returns the names, kinds, sizes and modification times of all files."""
    found = []
    for top in (scene.root, scene.outside):
        for folder, folders, files in os.walk(top):
            for inner in (*folders, *files):
                status = os.lstat(f"{folder}/{inner}")
                found.append((folder, inner, status.st_mode, status.st_size, status.st_mtime_ns))
    return sorted(found)


def _too_long(*_: Any) -> None:
    raise Wrong(f"reading took more than {DEADLINE_SECONDS} s")


def scene_in(folder: Path, files: Any) -> Scene:
    """Returns a scene with two empty folders, which `set_up` fills."""
    scene = Scene(folder / "run", folder / "outside", files)
    for top in (scene.root, scene.outside):
        top.mkdir()
        for step in STEPS:
            set_up(top / name(step), files[step])
    return scene


def set_up(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files of a checkpoint without flushing them to the disk."""
    folder.mkdir()
    for file, data in files.items():
        (folder / file).write_bytes(data)
