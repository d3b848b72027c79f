"""Trackers write what the libraries themselves read back, and what they keep in their files."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tfscale

FIRST = {"phases/compute": 0.75, "device_memory/GPU:0/peak": 2.5e9}
BLOCK, FULL, LAST = 1 << 15, 1, 4
SECOND = {"phases/compute": 0.5, "device_memory/GPU:0/peak": 3e9}


def started_twice(make: Callable[[], Any]) -> None:
    """A job that fails after 20 steps, and is started again from 10."""
    failed = make()
    failed(10, FIRST)
    failed(20, FIRST)
    again = make()
    again(15, SECOND)
    again.end()
    again.end()


def test_mlflow_reads_the_metrics_of_a_run_and_its_restart(tmp_path: Path) -> None:
    library = pytest.importorskip("mlflow")

    def make() -> Any:
        return tfscale.monitor.mlflow(tmp_path, run="first", experiment="digits")

    started_twice(make)
    client = library.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    for name in FIRST:
        history = client.get_metric_history(run.info.run_id, name)
        found = sorted((metric.step, metric.value) for metric in history)
        assert found == [(10, FIRST[name]), (15, SECOND[name]), (20, FIRST[name])]
    many = {f"layers/dense_{place}/gradient_norm": float(place) for place in range(1100)}
    make()(30, many)
    assert many.items() <= client.get_run(run.info.run_id).data.metrics.items()
    assert client.get_run(run.info.run_id).info.status == "RUNNING"


def records(path: Path) -> Iterator[bytes]:
    """Yields the records of a .wandb file: 7 bytes, then LevelDB's log format."""
    data, at, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK  # a header does not fit into the rest of the block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""


def test_wandb_has_the_lines_of_a_run_and_its_restart(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    started_twice(lambda: tfscale.monitor.wandb(tmp_path, project="digits", run="first"))
    rows, runs = [], set()
    for path in sorted(tmp_path.glob("wandb/offline-run-*/run-first.wandb")):
        for data in records(path):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                runs.add((record.run.project, record.run.run_id, record.run.display_name))
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                names = [".".join(item.nested_key) or item.key for item in items]
                values = [json.loads(item.value_json) for item in items]
                rows.append(dict(zip(names, values, strict=True)))
    assert runs == {("digits", "first", "first")}
    own = [{name: row[name] for name in (*FIRST, "position")} for row in rows]
    expected = [{**FIRST, "position": 10}, {**SECOND, "position": 15}, {**FIRST, "position": 20}]
    assert sorted(own, key=lambda row: float(row["position"])) == expected


def test_a_mode_of_wandb_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'`mode` must be "offline" or "online"'):
        tfscale.monitor.wandb(tmp_path, project="digits", run="first", mode="dryrun")


@pytest.mark.parametrize("run", ["", "a/b", "it's", None])
def test_a_run_without_a_name_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`run` must be a name of at most 128 letters"):
        tfscale.monitor.mlflow(tmp_path, run=run)
    with pytest.raises(ValueError, match="`run` must be a name of at most 128 letters"):
        tfscale.monitor.wandb(tmp_path, project="digits", run=run)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_library_that_is_missing_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    more = {"project": "digits"} if name == "wandb" else {}
    with pytest.raises(ImportError, match=rf"pip install 'tfscale\[{name}\]'"):
        getattr(tfscale.monitor, name)(tmp_path, run="first", **more)
