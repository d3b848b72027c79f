"""The memory of a step by purpose: for a real program, and for one calculated by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tfscale.preflight.ahead_of_time.memory import memory_of, padding_by_layer
from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    ELSEWHERE,
    METRICS,
    OPTIMIZER,
    OPTIMIZER_STATE,
    PARAMETERS,
    Argument,
    Program,
)

TINY = (Path(__file__).parent / "captured" / "tiny_v5e_2x2.txt").read_text("utf-8")
# What libtpu 0.0.52 counted of it.
SIZES = {
    "argument": 38_400,
    "output": 37_376,
    "alias": 35_840,
    "temp": 540_672,
    "generated_code": 1_266_688,
}
HIDDEN, END = "sequential/hidden", "sequential/end"
ARGUMENTS = (
    *[Argument(BATCH)] * 2,
    *[Argument(PARAMETERS, HIDDEN)] * 2,
    *[Argument(PARAMETERS, END)] * 2,
    *[Argument(METRICS)] * 2,
    *[Argument(OPTIMIZER_STATE)] * 10,
)
PROGRAM = Program(
    hlo=b"",
    fingerprint="tiny",
    num_replicas=4,
    rows=2,
    arguments=ARGUMENTS,
    scopes={"sequential_1/hidden_1": HIDDEN, "sequential_1/end_1": END},
    optimizer="adam",
)


def test_memory_is_split_as_worked_by_hand() -> None:
    memory = memory_of(PROGRAM, SIZES, TINY)
    # [16, 32] takes 2 tiles of 8 x 128 floats; a vector of up to 128 takes 512 bytes; [32, 4] is
    # stored in columns, 4 x 128.
    hidden, end, vector = 2 * 4096, 2048, 512
    assert memory.parameters == hidden + end + 2 * vector
    # m and v of each, the learning rate, and the count of steps: an int64 row.
    assert memory.optimizer == 2 * memory.parameters + vector + 1024
    assert memory.metrics == 2 * vector
    assert memory.batch == 2 * 1024  # [2, 16] and [2, 4] in tiles of 2 x 128
    assert memory.outputs == 37_376 - 35_840


def test_the_parts_add_up_to_the_formula_of_the_total() -> None:
    total = 38_400 + 37_376 - 35_840 + 540_672 + 1_266_688
    assert memory_of(PROGRAM, SIZES, TINY).total == total


def test_where_the_program_cannot_be_read_its_first_line_splits_the_memory() -> None:
    given = TINY.partition("entry_computation_layout={(")[2].partition(")->")[0]
    head = f"HloModule unread, entry_computation_layout={{({given})->()}}"
    assert memory_of(PROGRAM, SIZES, head) == memory_of(PROGRAM, SIZES, TINY)
    assert {row.layer for row in padding_by_layer(PROGRAM, head)} == {
        *(HIDDEN, END, OPTIMIZER),
        *(f"({kind})" for kind in (BATCH, METRICS)),
    }


def test_a_program_of_other_arguments_is_refused() -> None:
    fewer = dataclasses.replace(PROGRAM, arguments=ARGUMENTS[1:])
    with pytest.raises(ValueError, match="must have the 17 arguments of the step"):
        memory_of(fewer, SIZES, TINY)
    with pytest.raises(ValueError, match="Received: 18 arguments of 38400 bytes"):
        memory_of(PROGRAM, {**SIZES, "argument": 38_401}, TINY)


def test_padding_is_told_by_layer_and_the_most_wasteful_first() -> None:
    rows = padding_by_layer(PROGRAM, TINY)
    wasted = [row.wasted_bytes for row in rows]
    assert wasted == sorted(wasted, reverse=True)
    by_layer = {row.layer: row for row in rows}
    # Weights and bias of the hidden layer; what it computes stays in nearer memory.
    assert by_layer[HIDDEN].written_bytes == (16 * 32 + 32) * 4
    assert by_layer[HIDDEN].laid_out_bytes == 2 * 4096 + 512
    assert by_layer["(batch)"].wasted_bytes == 2048 - (2 * 16 + 2 * 4) * 4


SCOPES = {"net_1": "net", "net_1/conv2d_1": "net/conv2d", "net_1/conv2d_1_2": "net/conv2d_1"}


@pytest.mark.parametrize(
    ("operation", "layer"),
    [
        pytest.param("net_1/conv2d_1/Relu", "net/conv2d", id="forward"),
        pytest.param("net_1/conv2d_1_2/Relu", "net/conv2d_1", id="the other of two like names"),
        pytest.param("gradient_tape/net_1/conv2d_1_2/Conv2D", "net/conv2d_1", id="backward"),
        pytest.param("net_1/Cast", "net", id="the model itself"),
        pytest.param("net_1/conv2d_10/Relu", "net", id="a longer name is another"),
        pytest.param("adam/update/Sqrt", OPTIMIZER, id="optimizer"),
        pytest.param("compile_loss/mse/sub", ELSEWHERE, id="loss"),
        pytest.param("", ELSEWHERE, id="nameless"),
    ],
)
def test_an_operation_is_told_by_its_layer(operation: str, layer: str) -> None:
    program = dataclasses.replace(PROGRAM, scopes=SCOPES)
    assert program.layer_of(operation) == layer
