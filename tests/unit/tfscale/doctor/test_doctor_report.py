from __future__ import annotations

from typing import Any

import pytest

from tfscale.doctor.report import as_text

REPORT: dict[str, Any] = {
    "versions": {"python": "3.11.7", "tensorflow-cpu": "2.21.0"},
    "devices": {"CPU": 1, "GPU": 2},
    "cluster": {
        "source": "TF_CONFIG",
        "task": "worker 1",
        "jobs": {"chief": ["a:1"], "worker": ["first.example:1", "second.example:2"]},
    },
    "tested": {"keras": ">=3.14, <3.17", "is_tested": False},
    "features": [
        {"feature": "all strategies", "state": "works", "changed": []},
        {"feature": "predict", "state": "refused", "changed": ["keras:Model.predict"]},
        {"feature": "reports", "state": "works", "changed": ["keras:Layer.__new__"]},
    ],
    "fixes": [
        {"row": "C1", "state": "ready", "defect": "fit crashes"},
        {"row": "S20", "state": "refused", "defect": "masked losses divide by their own part"},
    ],
    "private_symbols": [
        {"needed_by": "all strategies", "state": "recognised"},
        {"needed_by": "all strategies", "state": "changed"},
        {"needed_by": "reports", "state": "recognised"},
    ],
    "problems": ["Keras changed keras.src.a:B.c. Install a Keras release that is supported."],
}

TEXT = """\
versions
  python          3.11.7
  tensorflow-cpu  2.21.0

devices
  CPU  1
  GPU  2

cluster
  from       TF_CONFIG
  this task  worker 1
  chief      a:1
  worker     first.example:1,
             second.example:2

features with these releases
  tested with Keras  >=3.14, <3.17; the
                     installed one is not
                     in this range
  predict            refused:
                     keras:Model.predict
                     changed
  works              2 of 3 features

fixes of Keras under tf.distribute
  C1   ready    fit crashes
  S20  refused  masked losses divide by
                their own part
  More about each: tfscale doctor --json
  (symbols, test, public threads, remove
  when).

private symbols in use
  all strategies  1 of 2 recognised
  reports         1 of 1 recognised

problems
  - Keras changed keras.src.a:B.c.
    Install a Keras release that is
    supported."""


def test_the_text_is_aligned_and_wrapped() -> None:
    assert as_text(REPORT, width=41) == TEXT


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_asked_for(width: int) -> None:
    assert max(map(len, as_text(REPORT, width=width).splitlines())) <= width


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "41")
    assert as_text(REPORT) == TEXT


def test_a_wide_terminal_does_not_make_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {**REPORT, "problems": ["word " * 100]}
    assert 90 < max(map(len, as_text(long, width=400).splitlines())) <= 100


def test_what_is_not_there_is_said() -> None:
    empty = {"versions": {"python": "3.11.7"}, "devices": {}, "cluster": None}
    absent: dict[str, Any] = {"tested": {}, "features": [], "fixes": [], "private_symbols": []}
    text = as_text({**empty, **absent, "problems": []}, width=80)
    assert text.splitlines()[3:] == [
        "devices",
        "  none",
        "",
        "cluster",
        "  none in the environment: a single process",
        "",
        "no problems",
    ]
