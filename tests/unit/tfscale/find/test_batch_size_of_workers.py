"""Several workers agree on a batch size: what fits all, as fast as the slowest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.programs import completed
from tfscale.find.agreement import _combined
from tfscale.find.probing import Probe

PROGRAM = str(Path(__file__).with_name("batch_sizes_of_workers.py"))
MODELS = "tests.unit.tfscale.find.found_batches"


def test_a_size_that_fits_all_is_as_fast_as_the_slowest() -> None:
    fast = Probe(8, fits=True, examples_per_second=100.0, host_bytes=5, noise_scale=3.0)
    slow = Probe(8, fits=True, examples_per_second=40.0, host_bytes=7, noise_scale=9.0)
    both = Probe(16, fits=True, examples_per_second=80.0, host_bytes=7, noise_scale=3.0)
    assert _combined(16, [fast, slow]) == both


def test_a_size_that_one_worker_cannot_hold_does_not_fit() -> None:
    fits = Probe(8, fits=True, examples_per_second=100.0, host_bytes=5)
    too_large = Probe(8, fits=False, why="too large", host_bytes=9)
    found = _combined(16, [fits, too_large])
    assert found == Probe(16, fits=False, why="worker 1: too large", host_bytes=9)


@pytest.mark.thorough
def test_two_workers_find_what_fits_the_one_with_less_memory(tmp_path: Path) -> None:
    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    done = completed(*launch, PROGRAM, str(tmp_path), timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads((tmp_path / f"{k}.json").read_text()) for k in range(2))
    assert first == second
    alone, smallest, steps, makes, broken = first["refused"]
    assert '`strategy` must be "multi_worker_mirrored" in one of 2 workers' in alone
    assert "`smallest` must be a multiple of the 2 workers" in smallest
    assert "`steps` must be the same on all workers. Received: [3, 4], by worker" in steps
    assert "`make` must be the same on all workers" in makes
    assert "ProbeFailed: worker 0: training with batch_size=2 raised" in broken
    beyond = [each for each in first["found"]["probes"] if not each["fits"]]
    assert beyond
    assert all(each["why"].startswith("worker 1: it needs more than 2.30") for each in beyond)
    assert (first["found"]["largest"], first["found"]["fastest"]) == (2, 2)


@pytest.mark.thorough
def test_the_chief_prints_what_all_workers_have_found() -> None:
    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    find = ("-m", "tfscale", "find", f"{MODELS}:linear", "--what=batch_size", "--json")
    sizes = ("--strategy=multi_worker_mirrored", "--smallest=16", "--largest=32", "--steps=3")
    done = completed(*launch, *find, *sizes, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if '"largest"' in line)
    found = json.loads(line.removeprefix("[worker 0] "))
    assert ([each["batch_size"] for each in found["probes"]], found["largest"]) == ([16, 32], 32)
