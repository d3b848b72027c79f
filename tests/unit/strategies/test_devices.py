"""Logical CPUs divide the threads of operations, unless the user has set them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.programs import forked

SHARE = str(max(1, len(os.sched_getaffinity(0)) // 2)) if hasattr(os, "sched_getaffinity") else ""
THREADS = "tf.config.threading.get_intra_op_parallelism_threads()"


@pytest.mark.skipif(not SHARE, reason="the cores that a process may use are known on Linux")
@pytest.mark.parametrize(
    ("before", "build", "variables", "threads"),
    [
        pytest.param("", "mirrored_strategy(2)", {}, SHARE, id="two"),
        pytest.param("", "mirrored_strategy(64)", {}, "1", id="more-than-cores"),
        pytest.param("", "one_device_strategy()", {}, "0", id="one-device"),
        pytest.param(
            "", "mirrored_strategy(1)", {}, "0", id="one-replica", marks=pytest.mark.thorough
        ),
        pytest.param(
            "tf.config.threading.set_intra_op_parallelism_threads(5)",
            "mirrored_strategy(2)",
            {},
            "5",
            id="set",
        ),
        pytest.param(
            "", "mirrored_strategy(2)", {"TF_NUM_INTRAOP_THREADS": "5"}, "0", id="variable"
        ),
    ],
)
def test_an_operation_has_its_replicas_share_of_the_cores(
    before: str, build: str, variables: dict[str, str], threads: str
) -> None:
    program = f"""
import strategies, tensorflow as tf
{before}
strategies.{build}
print("threads:", {THREADS})
"""
    done = subprocess.run(
        [sys.executable, *forked("-c", program)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"threads: {threads}\n" in done.stdout
