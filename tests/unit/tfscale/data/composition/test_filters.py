from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import RandomAccessSource, filtered, mixture
from tfscale.data.composition.function_key import function_key

LIMIT = 3
TABLE = np.arange(4)


def content(source: RandomAccessSource) -> list[Any]:
    rows: list[Any] = source.take(tf.range(source.num_indices, dtype=tf.int64)).numpy().tolist()
    return rows


def calls_of(keep: Callable[[Any], tf.Tensor]) -> tuple[Callable[[Any], tf.Tensor], list[int]]:
    """The function, and the number of examples of each of its calls."""
    calls: list[int] = []

    def counted(batch: Any) -> tf.Tensor:
        def call(rows: np.ndarray) -> np.ndarray:
            calls.append(len(rows))
            return rows

        rows = tf.numpy_function(call, [batch], tf.int64)
        return keep(tf.ensure_shape(rows, [None]))

    return counted, calls


def test_kept_examples_come_in_the_order_of_the_source() -> None:
    source = filtered({"x": np.arange(1000)}, lambda batch: batch["x"] % 7 == 3)
    rows = source.take(tf.range(source.num_examples, dtype=tf.int64))["x"]
    np.testing.assert_array_equal(rows, np.arange(3, 1000, 7))


def test_a_cached_result_is_found_and_1000_examples_are_compared(tmp_path: Path) -> None:
    x = np.arange(5000)
    keep, calls = calls_of(lambda batch: batch % 3 == 0)
    first = filtered(x, keep, version="1", cache_dir=tmp_path / "cache")
    assert sum(calls) == 5000
    calls.clear()
    second = filtered(x, keep, version="1", cache_dir=tmp_path / "cache")
    assert sum(calls) == 1000
    assert content(second) == content(first) == list(range(0, 5000, 3))
    assert second.fingerprint == first.fingerprint
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size < 5000 / 8 + 300


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other format"])
def test_a_damaged_file_is_evaluated_and_written_again(
    damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.arange(5000)
    keep, calls = calls_of(lambda batch: batch % 3 == 0)
    filtered(x, keep, version="1", cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    right = file.read_bytes()
    changed = bytearray(right)
    changed[-100] ^= 4
    file.write_bytes(
        {"cut": right[:-1], "bit": bytes(changed), "empty": b"", "other format": b"x" * 90}[damage]
    )
    calls.clear()
    assert content(filtered(x, keep, version="1", cache_dir=tmp_path)) == list(range(0, 5000, 3))
    assert sum(calls) == 5000
    assert file.read_bytes() == right
    assert "is damaged" in capfd.readouterr().err


def test_another_function_under_the_same_version_is_refused(tmp_path: Path) -> None:
    x = np.arange(5000)
    filtered(x, lambda batch: batch % 3 == 0, version="1", cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"other values for \d+ of 1000.*pass another `version`"):
        filtered(x, lambda batch: batch % 4 == 0, version="1", cache_dir=tmp_path)
    assert len(content(filtered(x, lambda b: b % 4 == 0, version="2", cache_dir=tmp_path))) == 1250


def test_other_functions_and_other_arrays_of_the_same_shape_are_evaluated(tmp_path: Path) -> None:
    x = np.arange(100)
    assert content(filtered(x, lambda batch: batch > 97, cache_dir=tmp_path)) == [98, 99]
    assert content(filtered(x, lambda batch: batch > 98, cache_dir=tmp_path)) == [99]
    assert content(filtered(x + 1, lambda batch: batch > 98, cache_dir=tmp_path)) == [99, 100]
    assert len(list(tmp_path.iterdir())) == 3


class Threshold:
    limit = 97

    def __call__(self, batch: Any) -> tf.Tensor:
        return batch > self.limit


def test_a_function_without_a_stable_hash_is_evaluated_at_every_start(tmp_path: Path) -> None:
    keep = Threshold()
    assert content(filtered(np.arange(100), keep, cache_dir=tmp_path)) == [98, 99]
    keep.limit = 98
    assert content(filtered(np.arange(100), keep, cache_dir=tmp_path)) == [99]
    assert not list(tmp_path.iterdir())


def test_the_fingerprint_differs_if_other_examples_are_kept() -> None:
    x = np.arange(100)
    ones = filtered(x, lambda batch: batch % 10 == 1)
    twos = filtered(x, lambda batch: batch % 10 == 2)
    assert ones.fingerprint != twos.fingerprint


def test_a_filtered_mixture_is_a_mixture_of_filtered_sources_with_the_same_weights() -> None:
    both = mixture([(np.arange(100), 3), (np.arange(1000, 1100), 1)])
    even = filtered(both, lambda batch: batch % 2 == 0)
    assert content(even) == [*range(0, 100, 2), *range(1000, 1100, 2)]
    # 51 draws of three quarters are the first that would repeat one of 50 examples.
    assert even.num_examples in (66, 67)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda batch: batch > 1000, "at least one example. Received: False for all 100"),
        (lambda batch: batch, "bool tensor of shape .n.. Received: int64"),
        (lambda batch: tf.reduce_any(batch > 3), r"Received: bool of shape \(\)"),
        (lambda batch: batch[:, tf.newaxis] > 3, r"Received: bool of shape \(None, 1\)"),
        (lambda batch: batch[:-1] > 3, r"Received: shape \(99,\) for 100 examples"),
        ("keep", "must be a function"),
    ],
)
def test_a_function_that_cannot_filter_is_refused(keep: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filtered(np.arange(100), keep)


def test_a_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`source` must have random access.*Dataset.filter"):
        filtered(tf.data.Dataset.range(10), lambda batch: batch > 3)


def over_limit(x: Any) -> Any:
    return x > LIMIT


def adds(y: Any) -> Callable[[Any], Any]:
    return lambda x: over_limit(x) & (x > y)


def compiled(text: str, **names: Any) -> Callable[..., Any]:
    """A function of the text, as a program with these global variables defines it."""
    space: dict[str, Any] = {"tf": tf, "np": np, "functools": functools, **names}
    exec(text, space)
    function: Callable[..., Any] = space["keep"]
    return function


BASE = "def keep(x):\n    return x > 3"
OTHERS = {
    "a constant": compiled("def keep(x):\n    return x > 4"),
    "an operator": compiled("def keep(x):\n    return x >= 3"),
    "a name": compiled("def keep(x):\n    return tf.less(x, 3)"),
    "another name": compiled("def keep(x):\n    return tf.greater(x, 3)"),
    "a default": compiled("def keep(x, y=3):\n    return x > y"),
    "another default": compiled("def keep(x, y=4):\n    return x > y"),
    "a keyword's default": compiled("def keep(x, *, y=3):\n    return x > y"),
    "another keyword's default": compiled("def keep(x, *, y=4):\n    return x > y"),
    "a global": compiled("def keep(x):\n    return x > K", K=3),
    "another global": compiled("def keep(x):\n    return x > K", K=4),
    "a global's type": compiled("def keep(x):\n    return x > K", K=4.0),
    "an array": compiled("def keep(x):\n    return x > K", K=np.array([1, 2])),
    "another array": compiled("def keep(x):\n    return x > K", K=np.array([1, 3])),
    "an array's type": compiled("def keep(x):\n    return x > K", K=np.array([1, 3], np.uint64)),
    "a called function": compiled("def g(x):\n    return x > 3\ndef keep(x):\n    return g(x)"),
    "in a called one": compiled("def g(x):\n    return x > 4\ndef keep(x):\n    return g(x)"),
    "an inner function": compiled("def keep(x):\n    return (lambda y: y > 3)(x)"),
    "in an inner function": compiled("def keep(x):\n    return (lambda y: y > 4)(x)"),
    "a global of an inner one": compiled("def keep(x):\n    return (lambda y: y > K)(x)", K=3),
    "and its value": compiled("def keep(x):\n    return (lambda y: y > K)(x)", K=4),
    "a partial": functools.partial(compiled("def keep(y, x):\n    return x > y"), 3),
    "another partial": functools.partial(compiled("def keep(y, x):\n    return x > y"), 4),
    "a set": compiled("def keep(x):\n    return x in {1, 2, 'a'}"),
    "another set": compiled("def keep(x):\n    return x in {1, 2, 'b'}"),
    "a tf.function": tf.function(compiled(BASE)),
    "a closure": adds(5),
    "another closure": adds(6),
    "of a library": tf.math.is_finite,
    "another of a library": tf.math.is_nan,
}


def test_functions_that_differ_in_anything_have_different_hashes() -> None:
    keys = {name: function_key(function) for name, function in OTHERS.items()}
    assert None not in keys.values(), keys
    keys["itself"] = function_key(compiled(BASE))
    assert len(set(keys.values())) == len(keys)


def test_equal_functions_have_equal_hashes() -> None:
    assert function_key(adds(5)) == function_key(adds(5))
    assert function_key(compiled(BASE)) == function_key(compiled("\n\n" + BASE))


def test_a_function_that_calls_itself_has_a_hash() -> None:
    first, second = (
        compiled(f"def keep(x):\n    return x if x > {limit} else keep(x + 1)") for limit in (3, 4)
    )
    assert function_key(first) not in (None, function_key(second))


def test_hashes_are_the_same_in_every_process() -> None:
    # The order of a set of strings differs between processes.
    text = "def keep(x):\n    return x in {'a', 'b', 'c', 'd', 'e'} and tf.size(x) > K"
    program = (
        "import tensorflow as tf\nfrom tfscale.data.composition.function_key import function_key\n"
        f"space = dict(tf=tf, K=frozenset('fghij'))\nexec({text!r}, space)\n"
        "print(function_key(space['keep']))"
    )
    root = Path(__file__).resolve().parents[5]
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    assert found.stdout.strip() == function_key(compiled(text, K=frozenset("fghij")))


@pytest.mark.parametrize(
    "function",
    [
        Threshold(),
        Threshold().__call__,
        compiled("def keep(x):\n    return K(x)", K=Threshold()),
        compiled("def keep(x):\n    return M.f(x)", M=types.ModuleType("mine")),
        compiled("def keep(x):\n    return missing(x)"),
        compiled("def keep(x):\n    return eval('x > K')", K=3),
        compiled("def keep(x):\n    import tests\n    return x"),
        compiled("def keep(x):\n    return x > V", V=tf.Variable(3)),
        compiled("def keep(x):\n    return open('f').read() == x"),
    ],
)
def test_what_may_change_unseen_has_no_hash(function: Any) -> None:
    assert function_key(function) is None
