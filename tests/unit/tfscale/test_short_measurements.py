"""A measurement has a figure, even if the machine stood still for all of its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfscale.doctor import health
from tfscale.monitor import peak
from tfscale.plan.speed import step_probe
from tfscale.shrink.exporting import run_file


def test_an_exported_file_has_the_seconds_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_file, "_MOST_SECONDS", 0.0)
    assert run_file._seconds(lambda inputs: [], {}) >= 0


def test_a_peak_of_operations_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "_SECONDS", 0.0)
    assert peak.measured_peak(tf.distribute.OneDeviceStrategy("CPU:0")) > 0


def test_the_doctor_finds_positive_speeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(health, "_PART_SECONDS", 0.0)
    monkeypatch.setattr(health, "_DISK_SECONDS", 0.0)
    assert health._calls_per_second(lambda: None) > 0
    assert min(health.disk_mb_per_s(tmp_path)) > 0


def test_an_input_delivers_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_probe, "_INPUT_SECONDS", 0.0)
    found = step_probe._input_rate(tf.data.Dataset.from_tensors(np.ones([4, 2])))
    assert found is not None
    assert found > 0
