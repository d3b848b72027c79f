from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.tfscale.report.made_up_monitor import NOON, Job, restarted, write_values
from tfscale.monitor.joules import energy
from tfscale.monitor.meters import OF_PROCESS
from tfscale.monitor.time_kinds import goodput
from tfscale.report import monitor_rows
from tfscale.report.monitor_columns import read_columns
from tfscale.report.monitor_page import monitor_json, monitor_part
from tfscale.report.monitored import monitor_folders, read_monitor, restarts
from tfscale.report.stragglers import Straggler, stragglers


def test_the_short_copy_tells_the_same_time_as_all_lines(tmp_path: Path) -> None:
    restarted(tmp_path)
    with (tmp_path / "monitor-1.jsonl").open("a") as file:
        file.write('{"event": "steps", "ti')  # killed
    found, truth = read_monitor(tmp_path).good, goodput(tmp_path)
    assert found.starts == truth.starts == 2
    assert found.workers.keys() == truth.workers.keys()
    for worker, kinds in truth.workers.items():
        assert found.workers[worker] == pytest.approx(kinds, rel=1e-9, abs=1e-9)
    # By hand: 3 lines of 10 steps are repeated; worker 0 waits a second longer in each of them.
    assert truth.workers[2]["lost_work"] == pytest.approx(3 * 2.07 + 0.36, abs=0.1)
    assert truth.workers[0]["stopped"] == pytest.approx(20.0)


@pytest.mark.parametrize("seed", range(20))
def test_any_lines_and_restarts_keep_their_time(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    job = Job(tmp_path)
    job.start(position=draw.randrange(5))
    for _ in range(draw.randrange(1, 80)):
        choice = draw.random()
        if choice < 0.05:
            if draw.random() < 0.5:
                job.kill(draw.randrange(3), seconds=draw.random(), in_step=draw.random())
            job.start(stopped=draw.random(), position=draw.randrange(job.position + 2))
        elif choice < 0.1:
            job.end()
            job.start(position=draw.randrange(job.position + 2))
        else:
            numbers = {"gradient_norm": draw.random()} if draw.random() < 0.9 else {}
            job.steps(draw.randrange(4), compute=draw.random() + 0.1, evaluation=0.1, **numbers)
    job.close()
    found, truth = read_monitor(tmp_path).good, goodput(tmp_path)
    assert found.workers[0] == pytest.approx(truth.workers[0], rel=1e-9, abs=1e-9)
    assert found.starts == truth.starts


@pytest.mark.parametrize(
    ("source", "joules", "hosts"),
    # Two workers, 9 lines of 2 and 3 J: estimates are of processes; workers share the counter of
    # their host, of which the mean counts.
    [(OF_PROCESS, 45.0, "aa"), ("rapl", 22.5, "aa"), ("rapl", 45.0, "ab")],
)
def test_the_energy_is_that_of_all_processes_and_of_each_host_once(
    tmp_path: Path, source: str, joules: float, hosts: str
) -> None:
    for worker, host in enumerate(hosts):
        job = Job(tmp_path, worker, 2)
        job.start(boot=host, host=host, carbon_intensity=100.0)
        for number in range(9):
            if number == 5:
                job.start(position=30, boot=host, host=host, carbon_intensity=100.0)
            read = {"joules": 2.0 + worker, "source": source}
            job.steps(10, compute=1.0, energy={"processors": read})
        job.end()
        job.close()
    truth, monitored = energy(tmp_path), read_monitor(tmp_path)
    assert monitored.energy is not None
    assert truth.joules == pytest.approx(joules)
    assert monitored.energy.devices == pytest.approx(truth.devices)
    assert monitored.energy.workers == pytest.approx(truth.workers)
    assert monitored.energy.grams_co2e == pytest.approx(joules / 3.6e6 * 100)
    assert monitor_json(monitored)["energy_joules"] == pytest.approx(joules)


def test_columns_have_every_number_of_every_line(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.start()
    for number in range(2500):  # more than a block
        more = {"energy": {"cpu": {"joules": number, "source": "rapl"}}} if number % 7 else {}
        job.steps(1, compute=0.5 + number, loss_scale=None if number == 9 else 2.0, **more)
    job.close()
    columns = read_columns(tmp_path / "monitor-0.jsonl", tmp_path / "copy")
    assert len(columns) == 2500
    assert list(columns.values["phases/compute"]) == [0.5 + n for n in range(2500)]
    joules = columns.values["energy/cpu/joules"]
    assert [n for n in range(2500) if math.isnan(joules[n])] == list(range(0, 2500, 7))
    assert joules[2498] == 2498
    assert [n for n in range(2500) if math.isnan(columns.values["loss_scale"][n])] == [9]
    assert "energy/cpu/source" not in columns.values


def test_a_long_file_is_read_by_several_processes_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarted(tmp_path)
    path = tmp_path / "monitor-0.jsonl"
    alone = read_columns(path, tmp_path / "alone")
    monkeypatch.setattr(monitor_rows, "_MANY_BYTES", 0)
    monkeypatch.setattr(monitor_rows, "_BLOCK_BYTES", 2000)  # 25 blocks
    together = read_columns(path, tmp_path / "together")
    # As text, because NaN is not equal to itself.
    assert repr(together) == repr(alone)
    assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()


def test_steps_that_a_restart_repeats_are_read_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.start()
    for _ in range(5):
        job.steps(10, compute=1.0, gradient_norm=1.0)
    job.start(position=30, stopped=7.0)
    for _ in range(3):
        job.steps(10, compute=1.0, gradient_norm=2.0)
    job.end()
    job.close()
    monitored = read_monitor(tmp_path)
    columns = monitored.workers[0]
    assert list(columns.positions()) == [10, 20, 30, 40, 50, 60]
    assert list(columns.of_kept("gradient_norm")) == [1, 1, 1, 2, 2, 2]
    assert len(columns) == 8
    (restart,) = restarts(monitored)
    assert (restart.position, restart.repeated) == (30, 20)
    assert restart.after == pytest.approx(3 + 5 + 7)
    assert restart.stopped == pytest.approx(7.0)
    assert monitored.began == NOON + 1000


def test_another_training_in_the_same_process_counts_on(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.start()
    job.steps(10, compute=1.0)
    job.end()
    job.process -= 1
    began = job.began
    job.clock -= 0
    job.start(after=0.0)
    job.steps(10, compute=1.0)
    job.close()
    path = tmp_path / "monitor-0.jsonl"
    path.write_text(
        path.read_text().replace(f'"process_began": {job.began}', f'"process_began": {began}')
    )
    assert list(read_columns(path, tmp_path / "copy").positions()) == [10, 20]


def test_a_worker_that_the_others_wait_for_is_found(tmp_path: Path) -> None:
    restarted(tmp_path)
    (found,) = stragglers(read_monitor(tmp_path).workers)
    # From line 60 of 120 on, that is step 600; it takes 2.07 s for 10 steps, the others 1.07 s.
    assert (found.worker, found.phase, found.is_over) == (2, "compute", False)
    assert found.first == pytest.approx(600, abs=20)
    assert found.seconds == pytest.approx(0.208, abs=0.006)
    assert found.others == pytest.approx(0.108, abs=0.006)


def test_equal_workers_have_no_straggler_and_one_that_recovered_says_when(tmp_path: Path) -> None:
    for worker in range(4):
        job = Job(tmp_path / "run", worker, 4)
        job.start()
        for line in range(100):
            late = 0.2 if 20 <= line < 50 else 0.0
            job.steps(
                1,
                compute=0.5,
                input_wait=late * (worker == 1),
                communication=0.1 + late * (worker != 1),
            )
        job.close()
    (found,) = stragglers(read_monitor(tmp_path / "run").workers)
    assert (found.worker, found.phase, found.is_over) == (1, "input_wait", True)
    assert found.first == pytest.approx(21, abs=2)
    assert found.last == pytest.approx(51, abs=2)
    assert found.waited == pytest.approx(30 * 0.2, rel=0.1)
    workers = read_monitor(tmp_path / "run").workers
    assert stragglers({index: workers[index] for index in (0, 2, 3)}) == []
    assert stragglers({1: workers[1]}) == []


def test_folders_of_monitor_are_found_below_a_run(tmp_path: Path) -> None:
    write_values(tmp_path / "monitor", "loss_scale", [1.0])
    write_values(tmp_path / "a" / "b" / "c", "loss_scale", [1.0])
    write_values(tmp_path / "a" / "b" / "c" / "d", "loss_scale", [1.0])
    write_values(tmp_path / ".hidden", "loss_scale", [1.0])
    found = monitor_folders(tmp_path)
    assert [str(each.relative_to(tmp_path)) for each in found] == ["a/b/c", "monitor"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing\n", "`folder` must contain monitor-0.jsonl"),
        ('{"event": "steps"}\n', "Received: time=None in line 3"),
        ('{"event": "steps", "time": 1, "clock": 2}\n', "Received: steps=None in line 3"),
        ('{"event": "steps", "a": ' + "[" * 100_000 + "\n", "nested too deep"),
        ("cut\ncut\n", "Received: cut in line 3"),
    ],
)
def test_a_line_that_is_not_of_monitor_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "monitor-0.jsonl"
    job = Job(tmp_path)
    job.start()
    job.steps(1, compute=1.0)
    job.close()
    path.write_text(text if text == "nothing\n" else path.read_text() + text)
    with pytest.raises(ValueError, match=r"must (contain|be)") as raised:
        read_monitor(tmp_path)
    assert words in str(raised.value)


def test_a_copy_is_short(tmp_path: Path) -> None:
    write_values(tmp_path, "gradient_norm", [1.0] * 5000)
    copy = tmp_path / "copy"
    read_columns(tmp_path / "monitor-0.jsonl", copy)
    lines = [json.loads(text) for text in copy.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "steps", "end"]
    assert lines[1]["phases"]["compute"] == pytest.approx(50.0)


def noisy(folder: Path, seed: int, workers: int, *, late: float = 0.0) -> None:
    """Workers of a busy host: each is slow by chance, in bursts; worker 0 is late in a third."""
    draw = random.Random(seed)
    work = []
    for worker in range(workers):
        burst, own = 0, []
        for line in range(240):
            burst = burst - 1 if burst else draw.randrange(3, 13) * (draw.random() < 0.02)
            slow = draw.uniform(0.3, 1.0) if burst else 0.0
            is_late = worker == 0 and 80 <= line < 160
            own.append(1.0 + draw.expovariate(10) + slow + late * is_late)
        work.append(own)
    for worker in range(workers):
        job = Job(folder, worker, workers)
        job.start()
        for line in range(240):
            longest = max(own[line] for own in work)
            waited = longest - work[worker][line]
            job.steps(10, compute=work[worker][line], communication=0.1 + waited)
        job.close()


@pytest.mark.parametrize("workers", [2, 4])
def test_noise_is_no_straggler(tmp_path: Path, workers: int) -> None:
    seeds = range(12)
    said = 0
    for seed in seeds:
        noisy(tmp_path / str(seed), seed, workers)
        said += bool(stragglers(read_monitor(tmp_path / str(seed)).workers))
    assert said <= 3  # of 12; without the rules all of them


@pytest.mark.parametrize("workers", [2, 4])
def test_a_straggler_is_found_in_noise(tmp_path: Path, workers: int) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        noisy(folder, seed, workers, late=1.5)
        found = stragglers(read_monitor(folder).workers)
        assert [each.worker for each in found] == [0]
        assert found[0].first == pytest.approx(800, abs=100)
        assert found[0].last == pytest.approx(1600, abs=200)


def planted(
    folder: Path, workers: int, lines: int, late: Callable[[int, int], float]
) -> list[Straggler]:
    """The stragglers that are found: of workers that work 1 s a line, some noise, and are late."""
    draw = random.Random(0)
    work = [
        [1.0 + 0.02 * draw.random() + late(worker, line) for line in range(lines)]
        for worker in range(workers)
    ]
    for worker, own in enumerate(work):
        job = Job(folder, worker, workers)
        job.start()
        for line in range(lines):
            longest = max(each[line] for each in work)
            job.steps(10, compute=own[line], communication=0.1 + longest - own[line])
        job.close()
    return stragglers(read_monitor(folder).workers)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize(("lines", "turns", "runs"), [(120, 40, 2), (120, 16, 8), (240, 80, 3)])
def test_a_worker_that_is_slow_again_and_again_is_found(
    tmp_path: Path, workers: int, lines: int, turns: int, runs: int
) -> None:
    slow = planted(tmp_path, workers, lines, lambda w, line: w == 0 and line % turns < turns // 2)
    assert {each.worker for each in slow} == {0}
    assert len(slow) in (runs, runs + 1)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_that_are_slow_one_after_the_other_are_found(tmp_path: Path, workers: int) -> None:
    slow = planted(tmp_path, workers, 120, lambda w, line: w == (0 if line < 40 else line // 80))
    assert {each.worker for each in slow} == {0, 1}


def test_two_slow_workers_of_four_and_ten_lines_are_found(tmp_path: Path) -> None:
    for name, lines, late in (
        ("both", 120, lambda w, line: w < 2),
        ("one for a while", 120, lambda w, line: w == 0 or (w == 1 and 40 <= line < 80)),
        ("short", 10, lambda w, line: w < 2),
    ):
        slow = planted(tmp_path / name, 4, lines, late)
        assert {each.worker for each in slow} == {0, 1}, name
    (found,) = planted(tmp_path / "half", 4, 10, lambda w, line: w == 0 and line >= 5)
    assert found.worker == 0


def test_noise_of_a_short_run_is_no_straggler(tmp_path: Path) -> None:
    said = 0
    for seed in range(20):
        draw = random.Random(seed)
        late = [[0.3 * draw.random() for _ in range(10)] for _ in range(4)]

        def of(worker: int, line: int, late: list[list[float]] = late) -> float:
            return late[worker][line]

        said += bool(planted(tmp_path / str(seed), 4, 10, of))
    assert said <= 5  # of 20; with the rules of long runs alone 10


def test_less_than_a_hundredth_of_the_run_is_not_worth_a_sentence(tmp_path: Path) -> None:
    for pause, expected in ((0.09, 0), (0.25, 1)):  # of 6 in 600 s: 0.9 %, and 2.4 %
        folder = tmp_path / str(pause)
        for worker in range(2):
            job = Job(folder, worker, 2)
            job.start()
            for line in range(600):
                is_late = 300 <= line < 360
                job.steps(
                    1,
                    compute=0.9 + pause * 1.0 * is_late * (worker == 0),
                    communication=0.1 + pause * is_late * (worker == 1),
                )
            job.close()
        assert len(stragglers(read_monitor(folder).workers)) == expected


def test_gaps_and_bytes_of_collectives_are_on_the_page(tmp_path: Path) -> None:
    for worker in range(2):
        job = Job(tmp_path, worker, 2)
        job.start(host="one.example")
        job.steps(10, compute=1.0, collective_bytes=10 * 2**20)
        late = {"unwritten": {"lines": 7, "error": "No space left on device"}} if worker else {}
        job.steps(70, compute=7.0, collective_bytes=70 * 2**20, **late)
        read = {"processors": {"joules": 5.0, "source": "rapl"}}
        job.steps(10, compute=1.0, collective_bytes=10 * 2**20, energy=read)
        unread = {"energy": {}, "energy_unread": {"processors": 2.0}} if worker else {}
        job.steps(20, compute=2.0, collective_bytes=20 * 2**20, **unread)
        job.end()
        job.close()
    monitored = read_monitor(tmp_path)
    found = monitor_json(monitored)
    assert found["collective_bytes"] == 2 * 2**20
    late_lines, counter = found["gaps"]
    assert "Worker 1 could not write from step 10 to step 80. One line has the sums of 7" in (
        late_lines
    )
    assert counter.startswith("The energy of one.example could not be read in the last 2")
    page = str(monitor_part(monitored, title="Monitor", identifier="m"))
    assert "Gaps in the record" in page
    assert "2.00 MiB" in page
    assert found["energy_joules"] == energy(tmp_path).joules
