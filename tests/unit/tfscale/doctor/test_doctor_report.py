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
    "host": {
        "cpus": {"seen": 64, "usable": 8, "quota": 2.5},
        "memory": {"free_bytes": 3_000_000_000, "limit_bytes": 4_000_000_000},
        "limits": {"open_files": 1024, "processes": None},
    },
    "accelerators": {"gpus": 2, "driver": "570.1", "tpu_files": []},
    "storage": [
        {"folder": "/a", "free_bytes": 5_000_000, "free_inodes": 7000, "in_memory": True},
        {"folder": "/b"},
    ],
    "peers": {
        "task": "worker 0",
        "tasks": {
            "worker 0": {
                "worker 1": {
                    "reached": True,
                    "round_trip_seconds": 0.00025,
                    "clock_ahead_seconds": -1.5,
                    "host": "second",
                    "address": "10.0.0.2",
                },
                "worker 2": {"reached": False},
            },
            "worker 1": {
                "worker 0": {"reached": True, "round_trip_seconds": 0.5},
                "worker 2": {"reached": False},
            },
            "worker 2": None,
        },
    },
    "health": {
        "devices": {"GPU:0": 51234.5},
        "figures": {"matmul_gflops": 51234.5, "disk_write_mb_per_s": 12.25, "all_reduce_ms": 3.0},
    },
    "examinations": ["releases", "host"],
    "remarks": ["Something may be right."],
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

host
  processors  64 seen, 8 usable, a quota
              of 2.5
  memory      3.00 GB free, a limit of
              4.00 GB
  open files  at most 1024
  processes   unlimited
  GPUs        2, driver 570.1

storage
  /a  5.0 MB, 7,000 inodes free (in
      memory)
  /b  could not be examined

round trips between tasks, ms
            worker 0  worker 1  worker 2
  worker 0  -         0.25      no
  worker 1  500.00    -         no
  worker 2  ?         ?         -

clocks of other tasks
  worker 1  1.500 s behind, second
            (10.0.0.2)

health
  matmul, GPU:0        51,234 GFLOP/s
  writing to disk      12.2 MB/s
  all-reduce of 1 MiB  3 ms

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

remarks
  - Something may be right.

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
    absent |= {"host": None, "storage": [], "accelerators": None, "peers": None, "health": None}
    absent |= {"examinations": ["releases"], "remarks": []}
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
