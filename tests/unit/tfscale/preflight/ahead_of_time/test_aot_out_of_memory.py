"""Parsing of the compiler's messages about memory: those of libtpu 0.0.52, short and long."""

from __future__ import annotations

import dataclasses

import pytest

from tfscale.preflight.ahead_of_time.memory import in_bytes, read_out_of_memory
from tfscale.preflight.ahead_of_time.program import Program

# Of `aot_models.tiny` with 2**27 rows, for v5e:1x1.
SHORT = """\
RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required \
for HLO temporaries (36.00G) exceeds available HBM (15.75G). HLO module: \
a_inference_flat_step_632__.5.
See https://openxla.org/xla/errors/error_1000 for more details."""
# The longer form, of which no text was captured here: written after XLA's own documentation.
LONG = """\
Ran out of memory in memory space hbm. Used 40.80G of 15.75G hbm. Exceeded hbm capacity by 25.05G.
  Largest program allocations in hbm:
  1. Size: 8.00G
     Operator: op_type="Relu" op_name="net_1/hidden_1/Relu"
     Shape: f32[67108864,32]{0,1:T(8,128)}
     Unpadded size: 8.00G
  2. Size: 1.50G
     Operator: op_name="adam/Sqrt"
     Shape: f32[3]{0}
     Unpadded size: 768.00M
"""
PROGRAM = Program(
    hlo=b"",
    fingerprint="",
    num_replicas=1,
    rows=2**27,
    arguments=(),
    scopes={"net_1/hidden_1": "net/hidden"},
    optimizer="adam",
    largest=(("gradient_tape/net_1/hidden_1/ReluGrad", 17_179_869_184), ("compile_loss/sub", 9)),
)


def test_what_is_needed_and_offered_is_read_from_a_real_message() -> None:
    short = read_out_of_memory(SHORT, PROGRAM)
    assert (short.needed_bytes, short.offered_bytes) == (36 * 2**30, round(15.75 * 2**30))
    assert short.needed_for == "HLO temporaries"  # weights and batch come on top


def test_where_the_compiler_names_no_buffer_the_step_as_traced_tells_the_layers() -> None:
    short = read_out_of_memory(SHORT, PROGRAM)
    assert not short.is_named_by_compiler
    found = [(buffer.layer, buffer.bytes) for buffer in short.largest]
    assert found == [("net/hidden", 2**34), ("(outside of the layers)", 9)]


def test_of_equally_large_arrays_that_of_a_layer_is_told_first() -> None:
    largest = (("compile_loss/sub", 9), ("net_1/hidden_1/MatMul", 9), ("adam/Sqrt", 10))
    short = read_out_of_memory(SHORT, dataclasses.replace(PROGRAM, largest=largest))
    told = [buffer.layer for buffer in short.largest]
    assert told == ["(optimizer)", "net/hidden", "(outside of the layers)"]


def test_buffers_that_it_names_are_told_by_layer() -> None:
    long = read_out_of_memory(LONG, PROGRAM)
    assert long.is_named_by_compiler
    assert (long.needed_bytes, long.offered_bytes) == (in_bytes("40.80G"), in_bytes("15.75G"))
    assert long.needed_for == ""
    assert [(b.layer, b.bytes, b.unpadded_bytes) for b in long.largest] == [
        ("net/hidden", 8 * 2**30, 8 * 2**30),
        ("(optimizer)", 3 * 2**29, 768 * 2**20),
    ]


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("1.5K", 1536), ("2.00M", 2**21)])
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert in_bytes(text) == size
