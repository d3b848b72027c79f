"""Traces from profiles and clocks that are made by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.tfscale.profile.chrome_format import problems_of, read, spans
from tfscale.profile.chrome_trace import Offset, Step, merged, worker_trace, write_trace
from tfscale.profile.clocks import Passage, offsets_from
from tfscale.profile.summary import figures, table
from tfscale.profile.xspace import Event, Row, rows_of

SECOND = 10**9


def rows() -> list[Row]:
    return [
        Row("python", [Event("outer", SECOND, 100_000), Event("inner", SECOND + 20_000, 30_000)]),
        Row("compute", [Event("MatMul", SECOND + 25_000, 10_000)]),
    ]


def steps() -> list[Step]:
    return [
        Step(4, SECOND - 5_000, SECOND + 110_000, {"compute": 1e-4, "input_wait": 2e-5}),
        Step(5, SECOND + 120_000, SECOND + 200_000, {"compute": 8e-5}),
    ]


def test_events_are_at_their_times_in_a_process_for_each_worker(tmp_path: Path) -> None:
    late = [Row(r.name, [e._replace(start=e.start + 3000) for e in r.events]) for r in rows()]
    both = [worker_trace(0, steps(), rows()), worker_trace(1, steps(), late)]
    write_trace(tmp_path / "trace.json.gz", merged(both, [Offset(0, 0), Offset(1000, 10)]))
    trace = read(tmp_path / "trace.json.gz")
    assert problems_of(trace) == []
    assert spans(trace, 0, "inner") == [pytest.approx((1000.02, 1000.05), abs=1e-6)]
    assert spans(trace, 1, "inner") == [pytest.approx((1000.022, 1000.052), abs=1e-6)]
    assert spans(trace, 0, "step 5") == [pytest.approx((1000.12, 1000.2), abs=1e-6)]
    assert [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"] == [
        "worker 0",
        "worker 1",
    ]
    (phases,) = (
        e["args"]["phases_ms"]
        for e in trace["traceEvents"]
        if e["name"] == "step 4" and e["pid"] == 0
    )
    assert phases == {"compute": 0.1, "input_wait": 0.02}
    assert trace["otherData"]["clocks"]["1"] == {"ahead_ms": 0.001, "within_ms": 1e-05}


def test_figures_leave_out_what_is_inside_of_another_operation() -> None:
    values = figures(merged([worker_trace(0, steps(), rows())], [Offset(0, 0)]))
    own = {each["name"]: each["total_ms"] for each in values["operations"]}
    assert own == pytest.approx({"outer": 0.07, "inner": 0.03, "MatMul": 0.01})
    worker = values["workers"][0]
    assert worker["steps"] == 2
    assert worker["step_ms"] == pytest.approx((0.115 + 0.08) / 2)
    assert worker["phases_ms"] == pytest.approx({"compute": 0.09, "input_wait": 0.01})
    assert "worker 0: 2 steps of 0.10 ms" in table(values)


def test_offsets_of_clocks_are_within_what_is_said() -> None:
    draw = random.Random(0)
    for ahead in (0, 40_000, -3_000_000_000):
        first: list[Passage] = []
        other: list[Passage] = []
        for k in range(8):
            entered = [10**7 * k + draw.randrange(10**6) for _ in range(2)]
            left = [max(entered) + draw.randrange(1, 10**6) for _ in range(2)]
            first.append((entered[0], left[0]))
            other.append((entered[1] + ahead, left[1] + ahead))
        found = offsets_from([first, other])[1]
        assert abs(found.nanoseconds - ahead) <= found.uncertainty < 10**6
        if ahead == 0:
            assert found.nanoseconds == 0


def test_a_profile_is_read_with_its_times_and_the_names_of_its_rows() -> None:
    xplane_pb2 = pytest.importorskip("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    space = xplane_pb2.XSpace()
    environment = space.planes.add(name="Task Environment")
    environment.stat_metadata[1].name = "profile_start_time"
    environment.stats.add(metadata_id=1, uint64_value=5 * SECOND)
    for plane_name, line_names in (("/host:CPU", ["a/17", "a/-4"]), ("/device:GPU:0", ["b"])):
        plane = space.planes.add(name=plane_name)
        plane.event_metadata[3].name = "MatMul"
        for line_name in line_names:
            line = plane.lines.add(name=line_name, timestamp_ns=100)
            line.events.add(metadata_id=3, offset_ps=7_000, duration_ps=2_000)
            line.events.add(metadata_id=3, offset_ps=7_000, duration_ps=9_000)
            line.events.add(metadata_id=3, offset_ps=1_000, duration_ps=0)
    start = 5 * SECOND + 107
    events = [Event("MatMul", start, 9), Event("MatMul", start, 2)]
    assert rows_of(space.SerializeToString()) == [
        Row("a", events),
        Row("a 2", events),
        Row("GPU:0 b", events),
    ]
    del space.planes[0]
    with pytest.raises(ValueError, match="must have the time of its start"):
        rows_of(space.SerializeToString())
    with pytest.raises(ValueError, match="cannot be read"):
        rows_of(b"\xff\xff")
