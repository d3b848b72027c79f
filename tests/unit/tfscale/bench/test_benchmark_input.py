"""`python -m tests.benchmarks input`: its images, what it counts, and real runs of small sets."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.benchmarks.input.images import LABEL_BYTES, ImageSet, image_set, pixels
from tests.benchmarks.input.race import VARIANTS
from tests.programs import completed
from tfscale.bench.peers.environment import reason_missing
from tfscale.bench.turns import children

IMAGES, BATCH = 64, 16
READ_ONLY = ("in_order", "at_random")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return image_set(IMAGES, tmp_path_factory.mktemp("images"))


def rows(images: ImageSet, names: str) -> dict[str, Any]:
    flags = (f"--num_images={IMAGES}", f"--batch_size={BATCH}", f"--variants={names}")
    folder = f"--data_dir={images.root.parent}"
    command = ("-m", "tests.benchmarks", "input", "--json", "--rounds=2", *flags, folder)
    done = completed(*command, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return {row["name"]: row for row in json.loads(done.stdout)["rows"]}


def test_the_three_forms_of_the_set_have_the_same_bytes(images: ImageSet) -> None:
    array_record_module = pytest.importorskip("array_record.python.array_record_module")
