"""Bytes of arrays in the chip's layout: by hand, and against the sum of the compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.preflight.ahead_of_time.program import argument_arrays, arrays, arrays_made

# The dense network of `aot_models.tiny` for v5e:2x2, as libtpu 0.0.52 compiled it; scalars of the
# entry computation, settings and source lines are taken out.
TINY = (Path(__file__).parent / "captured" / "tiny_v5e_2x2.txt").read_text("utf-8")
TINY_ARGUMENT_BYTES = 38_400  # what the compiler itself counted


@pytest.mark.parametrize(
    ("text", "written", "laid_out"),
    [
        pytest.param("f32[16,128]{1,0:T(8,128)}", 8192, 8192, id="whole tiles"),
        pytest.param("f32[9,129]{1,0:T(8,128)}", 9 * 129 * 4, 16 * 256 * 4, id="both sides padded"),
        pytest.param("f32[25088,10]{0,1:T(8,128)}", 25088 * 10 * 4, 16 * 25088 * 4, id="columns"),
        pytest.param("f32[64,32,32,3]{0,2,3,1:T(8,128)}", 786_432, 32 * 3 * 32 * 128 * 4, id="4-d"),
        pytest.param("f32[]{:T(128)}", 4, 512, id="a scalar takes a row"),
        pytest.param("bf16[8,128]{1,0:T(8,128)(2,1)}", 2048, 2048, id="packed in pairs"),
        pytest.param("pred[10]{0:T(512)(128)(4,1)}", 10, 512, id="a truth value is a byte"),
        pytest.param("s4[10]{0:T(8)}", 5, 8, id="half bytes"),
        pytest.param("f8e4m3fn[16]{0}", 16, 16, id="one byte, no tile"),
        pytest.param("u32[2,3]", 24, 24, id="no layout"),
    ],
)
def test_an_array_takes_whole_tiles(text: str, written: int, laid_out: int) -> None:
    (array,) = arrays(text)
    assert (array.written_bytes, array.laid_out_bytes) == (written, laid_out)


def test_a_tuple_holds_several_arrays_and_tells_which_lie_in_main_memory() -> None:
    found = list(arrays("(f32[128]{0:T(128)S(1)}, f32[4]{0:T(128)}, /*index=2*/u32[]{:S(2)})"))
    assert [array.is_in_hbm for array in found] == [False, True, False]


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="`dtype` must be an XLA type"):
        list(arrays("mystery[3]{0}"))


def test_the_arguments_of_a_real_program_add_up_to_what_the_compiler_counted() -> None:
    given = argument_arrays(TINY)
    assert len(given) == 18
    assert sum(array.laid_out_bytes for array in given) == TINY_ARGUMENT_BYTES


def test_a_text_without_arguments_is_refused() -> None:
    with pytest.raises(ValueError, match="layout of its arguments"):
        argument_arrays("HloModule nothing")


MODULE = """\
HloModule m, entry_computation_layout={(f32[8,128]{1,0:T(8,128)})->f32[8,128]{1,0:T(8,128)}}

%inside (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %never = f32[8,128]{1,0:T(8,128)} exponential(%p), metadata={op_name="net/never"}
}

%body (q: f32[8,128]) -> f32[8,128] {
  %q = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %looped = f32[9,128]{1,0:T(8,128)} negate(%q), metadata={op_name="net/looped"}
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %near = f32[8,128]{1,0:T(8,128)S(1)} copy(%a)
  %fused = (f32[8,128]{1,0:T(8,128)}, f32[1]{0:T(128)}) fusion(%near), kind=kLoop, \
calls=%inside, metadata={op_name="net/fused"}
  %part = f32[8,128]{1,0:T(8,128)} get-tuple-element(%fused), index=0
  ROOT %loop = f32[8,128]{1,0:T(8,128)} while(%part), condition=%gone, body=%body
}
"""


def test_arrays_are_made_by_fusions_and_loops_and_not_inside_of_a_fusion() -> None:
    made = [(made.operation, made.array.laid_out_bytes) for made in arrays_made(MODULE)]
    assert made == [("net/fused", 4096), ("net/fused", 512), ("net/looped", 8192)]
