"""Manifests forged on purpose: other values with right checksums."""

from __future__ import annotations

import copy
import json
import math
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from tests.checkpoint_damage.accidents import Scene
from tests.checkpoint_damage.made import MANIFEST, NEWEST, signed

VALUES: list[Any] = [
    *(None, True, False, "", "x", [], {}, [[]], {"x": 1}, [0], [2, 3], [-1], ["x"]),
    *(0, 1, 2, 7, -1, 255, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)),
    *(0.0, 1.0, 0.5, -1.5, 1e308, math.nan, math.inf, -math.inf),
    *("..", "../outside.bin", "/etc/passwd", "gs://bucket/x", "a/b", "a\\b", "manifest.json", "."),
    *("tensors-00000.bin", "tensors-00001.bin", "tensors-00000.bin\n", "\x00", "\ud800", "n" * 300),
    *("float32", "float64", "bfloat16", "int4", "object", "O", "str", "U9", "void", "V8", "f4,f4"),
    *("datetime64", "finfo", "__name__", "(9999,9999)f8", "complex128", "int8", "<f4", ">f4"),
    *([2**40, 2**40], [0, 2**62, 2**62], [1] * 40, [1] * 100, {"file": "x"}, [5, 7, 1]),
]
DEEP = 3000


def places(value: Any) -> list[tuple[Any, Any]]:
    """Returns each position in a JSON value: the container, and the name or index in it."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = list(enumerate(value)) if isinstance(value, list) else []
    return [place for key, inner in pairs for place in ((value, key), *places(inner))]


def put(manifest: Any, rng: Random) -> None:
    container, key = rng.choice(places(manifest))
    container[key] = copy.deepcopy(rng.choice(VALUES))


def remove(manifest: Any, rng: Random) -> None:
    container, key = rng.choice(places(manifest))
    del container[key]


def add(manifest: Any, rng: Random) -> None:
    container, key = rng.choice(places(manifest))
    if isinstance(container, list):
        container.insert(key, copy.deepcopy(rng.choice([*VALUES, container[key]])))
    else:
        new = rng.choice(["filepath", "x", "", "__class__", f"{key}_1", "best_weights", "model"])
        container[new] = copy.deepcopy(rng.choice([*VALUES, container[key]]))


def swap(manifest: Any, rng: Random) -> None:
    (one, key), (other, name) = rng.choice(places(manifest)), rng.choice(places(manifest))
    first, second = copy.deepcopy(one[key]), copy.deepcopy(other[name])
    one[key], other[name] = second, first


def nudge(manifest: Any, rng: Random) -> None:
    numbers = [(c, k) for c, k in places(manifest) if type(c[k]) is int]
    container, key = rng.choice(numbers)
    container[key] += rng.choice([-64, -8, -4, -2, -1, 1, 2, 4, 8, 64])


def bury(manifest: Any, rng: Random) -> None:
    container, key = rng.choice(places(manifest))
    buried: Any = 1
    for _ in range(rng.choice([10, 100, 900, DEEP])):
        buried = [buried] if rng.random() < 0.5 else {"x": buried}
    container[key] = buried


def move_slices(manifest: Any, rng: Random) -> None:
    """Slices that overlap, leave gaps or use the same bytes, as the next two may too."""
    tensors = manifest["tensors"]
    for _ in range(rng.choice([1, 1, 2])):
        part = rng.choice(rng.choice([t["slices"] for t in tensors.values()]))
        name = rng.choice(["offset", "start", "shape", "file"])
        if name == "offset":
            part["offset"] = max(0, part["offset"] + rng.choice([-12, -8, -4, 4, 8, 12]))
        elif name == "file":
            part["file"] = rng.choice(["tensors-00000.bin", "tensors-00001.bin", MANIFEST])
        elif part[name]:
            i = rng.randrange(len(part[name]))
            part[name][i] = max(0, part[name][i] + rng.choice([-2, -1, 1, 2]))


def repeat_slices(manifest: Any, rng: Random) -> None:
    one, other = rng.choices(list(manifest["tensors"].values()), k=2)
    one["slices"].append(copy.deepcopy(rng.choice(other["slices"])))
    if rng.random() < 0.5:
        one["slices"].pop(0)


def retype(manifest: Any, rng: Random) -> None:
    tensor = rng.choice(list(manifest["tensors"].values()))
    tensor["dtype"] = rng.choice(["float32", "int32", "int8", "float16", "complex64", "uint4"])


CHANGES: dict[str, Callable[[Any, Random], None]] = {
    "forged: any value": put,
    "forged: a name removed": remove,
    "forged: a name added": add,
    "forged: values exchanged": swap,
    "forged: numbers near by": nudge,
    "forged: nested deeply": bury,
    "forged: slices moved": move_slices,
    "forged: slices repeated": repeat_slices,
    "forged: another dtype": retype,
}


def forged(change: Callable[[Any, Random], None]) -> Callable[[Scene, Random], None]:
    """Returns a damage: up to three changes, and then right checksums."""

    def damage(scene: Scene, rng: Random) -> None:
        manifest = json.loads(scene.files[NEWEST][MANIFEST])
        for _ in range(1 if change is bury else rng.choice([1, 1, 1, 2, 3])):
            change(manifest, rng)
        if rng.random() < 0.7:
            _sum_again(scene, manifest)
        try:
            text = signed(manifest)
        except RecursionError:  # Python's writer refuses it, so the text is written by hand
            text = '{"callbacks": ' + "[" * 10 * DEEP
        (scene.newest / MANIFEST).write_text(text)

    return damage


def twice(scene: Scene, rng: Random) -> None:
    """A name that is in the text twice, with a checksum that is right for the last."""
    text = scene.files[NEWEST][MANIFEST].decode()
    first = rng.choice(['"position": {"epoch": 0},', '"callbacks": {},', '"sha256": "x",'])
    (scene.newest / MANIFEST).write_text(text.replace("{", "{" + first, 1))


FORGERIES: dict[str, Callable[[Scene, Random], None]] = {
    **{name: forged(change) for name, change in CHANGES.items()},
    "forged: a name twice": twice,
}


def _sum_again(scene: Scene, manifest: Any) -> None:
    """Corrects the checksum of each slice whose bytes can be found."""
    from tests.checkpoint_damage.outcome import ITEM_BYTES

    try:
        for tensor in manifest["tensors"].values():
            for part in tensor["slices"]:
                size = math.prod(part["shape"]) * ITEM_BYTES[tensor["dtype"]]
                data = scene.files[NEWEST][part["file"]]
                part["crc32"] = zlib.crc32(data[part["offset"] : part["offset"] + size])
    except (KeyError, TypeError, AttributeError, IndexError):
        return  # malformed values need no right checksums
