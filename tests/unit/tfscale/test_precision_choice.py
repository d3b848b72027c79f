"""Which precision follows from which devices: a table, made by hand from NVIDIA's."""

from __future__ import annotations

import itertools

import pytest

from tfscale.precision_choice import WorkerAnswer, agreed, suited_to

BFLOAT16, FLOAT16, FLOAT32 = "mixed_bfloat16", "mixed_float16", "float32"
DEVICES = [
    pytest.param("TPU", None, BFLOAT16, "a TPU", id="TPU"),
    pytest.param("CPU", None, FLOAT32, "no GPU or TPU", id="CPU"),
    pytest.param("GPU", (10, 0), BFLOAT16, "compute capability 10.0", id="B200, two digits"),
    pytest.param("GPU", (9, 0), BFLOAT16, "compute capability 9.0", id="H100"),
    pytest.param("GPU", (8, 9), BFLOAT16, "compute capability 8.9", id="L4"),
    pytest.param("GPU", (8, 0), BFLOAT16, "compute capability 8.0", id="A100: the first"),
    pytest.param("GPU", (7, 5), FLOAT16, "compute capability 7.5", id="T4: the last"),
    pytest.param("GPU", (7, 0), FLOAT16, "compute capability 7.0", id="V100: the first"),
    pytest.param("GPU", (6, 1), FLOAT32, "compute capability 6.1", id="P4: float16 is slow"),
    pytest.param("GPU", None, FLOAT32, "does not report", id="not NVIDIA's"),
]


def worker(index: int, kind: str, capability: tuple[int, int] | None = None) -> WorkerAnswer:
    return WorkerAnswer(f"worker {index}", "auto", kind, capability)


@pytest.mark.parametrize(("kind", "capability", "policy", "reason"), DEVICES)
def test_each_device_gets_the_precision_of_its_hardware(
    kind: str, capability: tuple[int, int] | None, policy: str, reason: str
) -> None:
    choice = suited_to(worker(0, kind, capability))
    assert choice.policy == policy
    assert reason in choice.reason


def test_the_weakest_worker_decides_in_any_order() -> None:
    strong, middle, weak = ("GPU", (9, 0)), ("GPU", (7, 5)), ("CPU", None)
    for order in itertools.permutations([strong, middle, weak]):
        choice = agreed([worker(index, *device) for index, device in enumerate(order)])
        place = order.index(weak)
        assert choice.policy == FLOAT32
        assert choice.reason == f"worker {place}, the weakest of 3, has no GPU or TPU"


def test_of_workers_with_equal_policies_the_first_is_named() -> None:
    choice = agreed([worker(0, "GPU", (9, 0)), worker(1, "GPU", (8, 0))])
    assert choice.policy == BFLOAT16
    assert choice.reason.startswith("worker 0, the weakest of 2")


def test_equal_workers_are_reported_together() -> None:
    choice = agreed([worker(index, "GPU", (8, 0)) for index in range(4)])
    assert choice.reason == "all 4 workers: GPUs of compute capability 8.0"


def test_a_named_precision_does_not_depend_on_the_devices() -> None:
    answers = [WorkerAnswer(f"worker {i}", BFLOAT16, "CPU") for i in range(2)]
    assert (agreed(answers).policy, agreed(answers).reason) == (BFLOAT16, "as asked")


def test_different_precisions_raise_an_error_that_lists_the_workers() -> None:
    answers = [WorkerAnswer("chief 0", "auto", "TPU"), WorkerAnswer("worker 0", FLOAT32, "TPU")]
    with pytest.raises(
        ValueError, match=r"Received: chief 0 'auto', worker 0 'float32'\. Pass the"
    ):
        agreed(answers)


def test_answers_survive_the_round_trip_through_json() -> None:
    for answer in (worker(0, "GPU", (7, 5)), worker(11, "CPU")):
        assert WorkerAnswer.from_json(answer.to_json()) == answer
