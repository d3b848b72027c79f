"""The report of a step that fits, of one that does not, and what no report contains."""

from __future__ import annotations

import dataclasses
import json

from tfscale.preflight.ahead_of_time.fitting import Fitting, LargestBatch
from tfscale.preflight.ahead_of_time.memory import Buffer, Memory, OutOfMemory, Padding
from tfscale.preflight.ahead_of_time.report import as_json, as_text
from tfscale.preflight.target import parse_target

MIB = 2**20
VERSIONS = {"jax": "0.10.2", "libtpu": "0.0.52"}
FITS = Fitting(
    parse_target("v5e:2x2"),
    rows=8,
    memory=Memory(174 * MIB, 349 * MIB, 0, MIB, 2000 * MIB, 0, 116 * MIB),
    padding=[Padding("net/conv2d", MIB, 4 * MIB), Padding("net/dense", MIB, MIB)],
    largest=LargestBatch(60, 64),
    seconds=24.0,
    versions=VERSIONS,
    date="2026-11-22",
)
SHORT = Fitting(
    parse_target("v5e"),
    rows=512,
    shortage=OutOfMemory(40 * 2**30, 16 * 2**30, (Buffer("net/logits", "f32[9]", MIB, MIB),)),
    versions=VERSIONS,
    date="2026-11-22",
)


def test_a_step_that_fits_is_told_with_its_memory_versions_and_date() -> None:
    text = as_text(FITS)
    assert "verdict: compiles for v5e:2x2 and fits: 2,640.0 MiB per replica, with 8" in text
    assert "jax 0.10.2, libtpu 0.0.52, 2026-11-22, compiled in 24 s" in text
    assert "3.0 MiB   75% of it  net/conv2d" in text
    assert "net/dense" not in text  # nothing is wasted there
    assert "largest batch: 60 examples per replica fit, 240 in all; 64 do not." in text


def test_a_program_that_cannot_be_read_back_is_told_with_the_reason() -> None:
    unread = dataclasses.replace(FITS, unread="async-update of 4 operands")
    text = as_text(unread)
    assert "padding of the arguments only" in text
    assert "async-update of 4 operands" in text
    assert "3.0 MiB   75% of it  net/conv2d" in text
    assert "cannot be read" not in as_text(FITS)
    assert as_json(unread)["unread"] == "async-update of 4 operands"


def test_one_that_does_not_fit_is_told_with_the_layer() -> None:
    text = as_text(SHORT)
    assert "does not fit on v5e:1x1: it needs 40,960.0 MiB of 16,384.0 MiB per replica" in text
    assert "1.0 MiB  net/logits  f32[9]" in text


def test_where_a_part_is_too_large_already_the_part_is_told() -> None:
    assert SHORT.shortage is not None
    part = dataclasses.replace(SHORT.shortage, needed_for="HLO temporaries")
    text = as_text(dataclasses.replace(SHORT, shortage=part))
    assert "v5e:1x1: its HLO temporaries need 40,960.0 MiB of 16,384.0 MiB" in text


def test_no_report_says_that_anything_runs() -> None:
    for result in (FITS, SHORT):
        assert "runs on" not in as_text(result)
        assert "but not the chip" in as_text(result)


def test_a_program_reads_the_same_from_json() -> None:
    fits, short = (json.loads(json.dumps(as_json(result))) for result in (FITS, SHORT))
    assert fits["memory"]["total"] == 2640 * MIB
    assert (fits["fits"], short["fits"]) == (True, False)
    assert fits["largest_batch"] == {"rows": 60, "refused_rows": 64}
    assert short["out_of_memory"]["largest"][0]["layer"] == "net/logits"
