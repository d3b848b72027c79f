"""Energy: counters of a planted folder, NVML's absence, and sums with every counter once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tfscale
from tests.unit.tfscale.monitor.test_goodput import begin, window, write
from tfscale.monitor import meters
from tfscale.monitor.gpus import Gpus, chosen
from tfscale.monitor.meters import OF_PROCESS, Meters
from tfscale.monitor.network import network_bytes
from tfscale.monitor.powercap import Powercap


def plant(root: Path, zone: str, name: str, microjoules: int, largest: int = 10**9) -> Path:
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_and_memory_count_once_and_counters_that_began_again(tmp_path: Path) -> None:
    first = plant(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = plant(tmp_path, "intel-rapl:1", "package-1", 900_000_000)
    memory = plant(tmp_path, "intel-rapl:0:1", "dram", 0)
    core = plant(tmp_path, "intel-rapl:0:0", "core", 0)
    platform = plant(tmp_path, "intel-rapl:2", "psys", 0)
    again = plant(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    (tmp_path / "sys/class/powercap/intel-rapl").mkdir()
    processors = Powercap(tmp_path)
    assert processors.joules() == 0
    for counter in (core, platform, again):
        counter.write_text("700000000")
    first.write_text("7000000")
    second.write_text("50000000")  # 100 J to its end, and 50 J
    memory.write_text("250000")
    assert processors.joules() == 2 + 150 + 0.25
    assert processors.joules() == 0


def test_a_host_without_a_counter_is_refused_or_estimated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no counter .* or give processor_watts=") as refused:
        Meters(None, tmp_path)
    assert "`energy` must have something to measure" in str(refused.value)
    taken = Meters(1000, tmp_path)
    busy = sum(range(3_000_000))
    assert busy > 0
    found = taken.read()[0]["processors"]
    assert found["source"] == OF_PROCESS
    assert found["joules"] > 0


def test_a_counter_that_only_root_can_read_is_refused(tmp_path: Path) -> None:
    counter = plant(tmp_path, "intel-rapl:0", "package-0", 1)
    counter.unlink()
    counter.mkdir()  # root, who runs tests in containers, may read every file
    with pytest.raises(ValueError, match=r"energy_uj.* Run as root"):
        Meters(None, tmp_path)
    counter.rmdir()
    counter.write_text("many")
    with pytest.raises(ValueError, match="contains 'many', not a number of microjoules"):
        Meters(None, tmp_path)


def test_a_counter_is_preferred_to_an_estimate(tmp_path: Path) -> None:
    counter = plant(tmp_path, "intel-rapl:0", "package-0", 0)
    taken = Meters(1000, tmp_path)
    counter.write_text("3000000")
    assert taken.read() == ({"processors": {"joules": 3, "source": "rapl"}}, {})


def test_a_counter_that_fails_is_said_once_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path, "intel-rapl:0", "package-0", 0).write_text("2000000")
    second = plant(tmp_path, "intel-rapl:1", "package-1", 0)
    taken = Meters(None, tmp_path)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("5000000")
    second.unlink()
    for _ in range(2):
        found, unread = taken.read()
        assert found == {}
        assert unread["processors"] >= 0
    second.write_text("1500000")
    # All since it was read: 3 J of the first package are not lost.
    assert taken.read() == ({"processors": {"joules": 4.5, "source": "rapl"}}, {})
    said = capsys.readouterr().err
    assert said.count("Monitor cannot read the energy of processors") == 1
    assert "Training goes on" in said


def test_what_was_unread_for_a_time_counts_from_when_it_was_read(tmp_path: Path) -> None:
    at = {"host": "one.example", "carbon_intensity": 360.0}
    unread = {**window(30.0, 1, 2), "energy": {}, "energy_unread": {"processors": 10.0}}
    write(
        tmp_path,
        begin(1, 0.0, 10.0, 0, **at),
        took(window(20.0, 1, 1), processors=(50, "rapl")),
        unread,
        took(window(40.0, 1, 3), processors=(100, "rapl")),
        {**unread, "clock": 52.0, "energy_unread": {"processors": 12.0}},
    )
    taken = tfscale.monitor.energy(tmp_path)
    assert taken.joules == pytest.approx(150)
    assert taken.unread == {"one.example": 12.0}
    assert "12.0 s not counted: it could not be read" in str(taken)


def test_gpus_without_the_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ValueError, match=r"pip install 'tfscale\[energy\]'"):
        Gpus([0], None)


def test_gpus_without_a_driver_are_refused() -> None:
    pytest.importorskip("pynvml")
    with pytest.raises(ValueError, match=r"NVML says: NVML Shared Library Not Found"):
        Gpus([0], None)


class NoCounter(Exception):
    """NVMLError of the fake."""


def fake_nvml(millijoules: dict[str, list[int]]) -> ModuleType:
    """GPUs 0 and 1 of a host: one counts joules, the other is too old for it."""
    fake: Any = ModuleType("pynvml")

    def energy(handle: str) -> int:
        if handle not in millijoules:
            raise NoCounter("Not Supported")
        return millijoules[handle].pop(0)

    fake.NVMLError = NoCounter
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetHandleByIndex = lambda place: f"GPU-{place}"
    fake.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    fake.nvmlDeviceGetUUID = lambda handle: handle
    fake.nvmlDeviceGetTotalEnergyConsumption = energy
    fake.nvmlDeviceGetPowerUsage = lambda _: 250_000
    fake.nvmlDeviceGetUtilizationRates = lambda _: type("Rates", (), {"gpu": 40})
    return fake  # type: ignore[no-any-return]


def test_gpus_have_joules_watts_and_utilization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({"GPU-3": [1000, 3500, 3600]}))
    moments = iter([10.0, 14.0, 15.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    both = Gpus([1, 0], "GPU-old,3")
    found = both.read()
    assert found["GPU-3"] == {"joules": 2.5, "source": "nvml", "watts": 250, "utilization": 0.4}
    assert found["GPU-old"]["joules"] == 4 * 250
    assert found["GPU-old"]["source"] == "estimate: nvml's newest power"
    assert both.read()["GPU-3"]["joules"] == pytest.approx(0.1)


def test_a_gpu_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = {"GPU-0": [1000, 3500, 3600], "GPU-1": [0, 9000]}
    library: Any = fake_nvml(counters)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    both = Gpus([0, 1], None)
    power = library.nvmlDeviceGetPowerUsage

    def fails(handle: str) -> int:
        if handle == "GPU-1":
            raise NoCounter("GPU is lost")
        return int(power(handle))

    library.nvmlDeviceGetPowerUsage = fails
    assert list(both.read()) == ["GPU-0"]
    assert both.errors == {"GPU-1": "GPU is lost"}
    library.nvmlDeviceGetPowerUsage = power
    assert both.read()["GPU-1"]["joules"] == 9.0  # also while it could not be read
    assert both.errors == {}


def test_a_part_of_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`energy` needs whole GPUs.*MIG-1"):
        chosen([0], "MIG-1")


def test_gpus_are_measured_without_processors_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({"GPU-0": [0, 1000]}))
    monkeypatch.setattr(meters, "visible_gpus", lambda: Gpus([0], None))
    assert list(Meters(None, tmp_path).read()[0]) == ["GPU-0"]
    assert "Monitor counts the energy of GPUs only" in capsys.readouterr().err


def took(line: dict[str, Any], **joules: tuple[float, str]) -> dict[str, Any]:
    read = {name: {"joules": each, "source": source} for name, (each, source) in joules.items()}
    return {**line, "energy": {name.replace("_", "-"): each for name, each in read.items()}}


def test_a_host_and_a_gpu_that_workers_share_count_once(tmp_path: Path) -> None:
    at = {"host": "one.example", "carbon_intensity": 360.0}
    other = {"host": "two.example", "boot": "two", "carbon_intensity": 360.0}
    # Worker 0 measures from 10 to 30, worker 1 from 20 to 40, on one host that takes 5 W.
    write(
        tmp_path,
        begin(1, 0.0, 10.0, 0, **at),
        took(window(20.0, 1, 1), processors=(50, "rapl"), GPU_a=(1000, "nvml")),
        took(window(30.0, 1, 2), processors=(50, "rapl"), GPU_a=(1000, "nvml")),
    )
    write(
        tmp_path,
        begin(2, 0.0, 20.0, 0, **at),
        took(window(40.0, 1, 1), processors=(100, "rapl"), GPU_b=(600, "nvml")),
        worker=1,
    )
    write(
        tmp_path,
        begin(3, 0.0, 20.0, 0, **other),
        took(window(40.0, 1, 1), processors=(7, OF_PROCESS)),
        worker=2,
    )
    taken = tfscale.monitor.energy(tmp_path)
    assert taken.devices == {
        "GPU-a": 2000,
        "GPU-b": 600,
        "one.example": pytest.approx(150),  # 30 s
        "worker 2 on two.example": 7,
    }
    # From 20 to 30 both measure it.
    assert taken.workers == pytest.approx({0: 2000 + 75, 1: 600 + 75, 2: 7})
    assert taken.joules == pytest.approx(2757)
    assert taken.kwh == pytest.approx(2757 / 3.6e6)
    assert taken.grams_co2e == pytest.approx(360 * 2757 / 3.6e6)
    assert "one.example" in str(taken)
    assert taken.sources["worker 2 on two.example"].startswith("estimate")


def test_restarts_add_up_and_without_an_intensity_there_are_no_grams(tmp_path: Path) -> None:
    write(
        tmp_path,
        begin(1, 0.0, 10.0, 0, carbon_intensity=100.0),
        took(window(20.0, 1, 1), processors=(50, "rapl")),
        begin(2, 25.0, 30.0, 0),
        took(window(40.0, 1, 1), processors=(60, "rapl")),
    )
    taken = tfscale.monitor.energy(tmp_path)
    assert taken.joules == 110
    assert taken.grams_co2e is None
    assert "CO2e" not in str(taken)


def test_lines_without_energy_or_with_something_else_are_refused(tmp_path: Path) -> None:
    write(tmp_path, begin(1, 0.0, 1.0, 0), window(2.0, 1, 1))
    with pytest.raises(ValueError, match=r"Train with tfscale\.callbacks\.Monitor\(folder, energy"):
        tfscale.monitor.energy(tmp_path)
    write(tmp_path, {**window(3.0, 1, 2), "energy": {"processors": 4}})
    with pytest.raises(ValueError, match=r"energy=\{'processors': 4\} in line 3"):
        tfscale.monitor.energy(tmp_path)


def test_bytes_of_hardware_count_once(tmp_path: Path) -> None:
    def line(name: str, received: int, sent: int) -> str:
        return f"{name}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"

    (tmp_path / "proc/net").mkdir(parents=True)
    rows = line("lo", 9, 9) + line("  eth0", 100, 20) + line("bond0", 100, 20) + line("eth1", 3, 4)
    (tmp_path / "proc/net/dev").write_text(f"Inter-|\n face |\n{rows}")
    assert network_bytes(tmp_path) == {"sent": 44, "received": 203, "loopback": 9}
    for name in ("eth0", "eth1"):
        (tmp_path / "sys/class/net" / name / "device").mkdir(parents=True)
    assert network_bytes(tmp_path) == {"sent": 24, "received": 103, "loopback": 9}
    assert network_bytes(tmp_path / "proc") == {}
    assert json.dumps(network_bytes())
