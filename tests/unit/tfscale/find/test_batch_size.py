"""The largest batch that fits, in processes that are really killed; the noise scale by hand."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tests.programs import run_program
from tfscale.files.room import peak_memory
from tfscale.find.batch_probe import Outcome, Request
from tfscale.find.batch_size import find_batch_size
from tfscale.find.noise_scale import NoiseScale
from tfscale.find.probing import ProbeFailed, _of_outcome

MODELS = "tests.unit.tfscale.find.found_batches"


def test_the_noise_scale_of_known_gradients() -> None:
    random = np.random.default_rng(0)
    mean, deviation, size = np.array([1.0, -2.0, 0.5]), 3.0, 50
    noise = NoiseScale(size)
    for _ in range(4000):
        noise.add([random.normal(mean, deviation, size=(size, 3)).mean(axis=0)])
    wanted = 3 * deviation**2 / np.sum(mean**2)  # tr(S) / |G|^2
    assert noise.estimate() == pytest.approx(wanted, rel=0.1)


def test_the_noise_scale_is_not_known_without_a_signal() -> None:
    noise = NoiseScale(1)
    assert noise.estimate() is None
    noise.add([np.array([1.0])])
    assert noise.estimate() is None
    noise.add([np.array([-1.0])])
    assert noise.estimate() is None


@pytest.mark.thorough
def test_arrays_are_repeated_and_nothing_is_larger_than_asked() -> None:
    found = find_batch_size(f"{MODELS}:linear", smallest=48, largest=100, steps=3)
    assert [each.batch_size for each in found.probes] == [48, 96, 100]
    assert all(each.fits and each.examples_per_second for each in found.probes)
    assert (found.largest, found.fastest in (48, 96, 100)) == (100, True)
    assert found.noise_scale is None or found.noise_scale > 0
    assert "largest that fits: 100" in str(found)


@pytest.mark.thorough
def test_a_process_that_needs_too_much_memory_is_killed() -> None:
    limit = 2 * 2**30
    found = find_batch_size(
        f"{MODELS}:hungry", smallest=16, largest=4096, steps=3, memory_limit=limit
    )
    beyond = next(each for each in found.probes if not each.fits)
    assert beyond.why == "it needs more than 2.00 GiB of the host"
    assert 16 <= found.largest < beyond.batch_size or found.largest < 4096
    sizes = [each.batch_size for each in found.probes]
    assert min(s for s in sizes if s > found.largest) <= 1.25 * found.largest
    assert all((each.host_bytes or 0) <= limit for each in found.probes if each.fits)


def test_memory_that_was_needed_between_two_looks_counts() -> None:
    request = Request(f"{MODELS}:hungry", [], "one_device", None, 64, 3, has_noise=False)
    for peak, fits in ((2 * 2**30, True), (2 * 2**30 + 1, False)):
        outcome = Outcome(seconds_per_step=1.0, host_bytes=peak)
        found = _of_outcome(request, outcome, most=2**30, memory_limit=2 * 2**30)
        assert (found.fits, found.host_bytes) == (fits, peak)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_has_started_it() -> None:
    held = bytearray(300_000_000)
    code = "from tfscale.files.room import peak_memory; print(peak_memory())"
    assert 1_000_000 < int(run_program("-c", code, timeout=60)) < 200_000_000
    assert (peak_memory() or 0) > len(held)


@pytest.mark.thorough
def test_batches_of_a_dataset_have_the_size_that_was_asked_for() -> None:
    found = find_batch_size(
        f"{MODELS}:own_batches", strategy="mirrored", num_replicas=2, smallest=8, largest=8, steps=3
    )
    assert found.largest == 8
    with pytest.raises(ValueError, match=r"must return batches of the size .* 7 rows for batch"):
        find_batch_size(f"{MODELS}:other_batches", steps=3)


@pytest.mark.thorough
def test_a_deadline_and_errors_are_told() -> None:
    with pytest.raises(ValueError, match=r"smallest=8: it has not done its steps within 12 s"):
        find_batch_size(f"{MODELS}:slow", steps=3, seconds=12)
    with pytest.raises(ProbeFailed, match="training with batch_size=8 raised "):
        find_batch_size(f"{MODELS}:broken", steps=3)
    with pytest.raises(ValueError, match="no_such cannot be imported"):
        find_batch_size(f"{MODELS}:no_such", steps=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"make": lambda batch_size: None}, "`make` must be a function that another process"),
        ({"make": "mine"}, "`make` must be a function"),
        ({"strategy": "tpu"}, "`strategy` must be"),
        ({"num_replicas": 2}, "`num_replicas` must be None unless"),
        ({"smallest": 0}, "`smallest` must be"),
        ({"smallest": 8, "largest": 4}, "`largest` must be"),
        ({"steps": 2}, "`steps` must be"),
        ({"seconds": 0.0}, "`seconds` must be"),
        ({"memory_limit": 0}, "`memory_limit` must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_batch_size(**{"make": f"{MODELS}:linear", **arguments})
