"""The cable that can be cut and the disk that can be filled, if root may make them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import disks, shortage
from tests.faults.cables import ADDRESSES, Cable, missing
from tests.faults.traces import marked
from tests.programs import own_environment

LISTENER = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # for all words at once
    end.bind(({ADDRESSES[0]!r}, 5000))
    print("ready", flush=True)
    while word := end.recv(100):
        print(word.decode(), flush=True)
"""
TALKER = f"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    for word in sys.argv[1:]:
        end.sendto(word.encode(), ({ADDRESSES[0]!r}, 5000))
"""


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_cable_carries_nothing_while_it_is_cut() -> None:
    if reason := missing():
        pytest.skip(reason)
    with Cable() as cable:
        listen = cable.command(0, [sys.executable, "-S", "-c", LISTENER])
        with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "ready\n"
            for loss, word in ((0.0, "before"), (1.0, "cut"), (0.0, "after")):
                cable.loss = loss
                talk = cable.command(1, [sys.executable, "-S", "-c", TALKER, word])
                subprocess.run(talk, check=True, timeout=120)
                if word != "cut":
                    assert listener.stdout.readline() == f"{word}\n"
                else:
                    await_true(lambda: any(b"cut" in frame for frame in tuple(cable.lost)))
            listener.kill()
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert cable.command(0, [])[3] not in listed.stdout


def test_a_cable_loses_as_many_packets_as_asked(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    words = [str(number) for number in range(400)]
    with Cable(seed=1) as cable:
        listen = cable.command(0, [sys.executable, "-S", "-c", LISTENER])
        with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "ready\n"
            talk = cable.command(1, [sys.executable, "-S", "-c", TALKER])
            subprocess.run([*talk, "first"], check=True, timeout=120)  # who has which address
            assert listener.stdout.readline() == "first\n"
            cable.loss, before = 0.25, cable.frames
            subprocess.run([*talk, *words], check=True, timeout=120)
            await_true(lambda: cable.frames >= before + len(words))
            cable.loss = 0.0
            subprocess.run([*talk, "last"], check=True, timeout=120)
            heard = list(iter(listener.stdout.readline, "last\n"))
            listener.kill()
    # 300 of 400 on average, 9 its standard deviation.
    assert 255 < len(heard) < 345


def test_a_filled_disk_takes_no_byte_more_and_is_gone_at_the_end(tmp_path: Path) -> None:
    if reason := disks.missing():
        pytest.skip(reason)
    with disks.small_disk(tmp_path / "disk") as disk:
        filler = disks.fill(disk)
        assert filler.stat().st_size > disks.SIZE / 2
        with pytest.raises(OSError, match="No space left"), (disk / "more").open("wb") as file:
            file.write(b"x" * 10_000)
        filler.unlink()
        (disk / "more").write_bytes(b"x" * 10_000)
    assert list((tmp_path / "disk").iterdir()) == []


def test_the_kernel_kills_a_process_that_takes_more_than_its_groups_limit() -> None:
    if reason := shortage.missing():
        pytest.skip(reason)
    program = "import sys\nsys.stdin.readline()\nfrom tests.faults.injections import take_memory\n"
    with shortage.memory_group(shortage.LIMIT) as group:
        with subprocess.Popen(
            [sys.executable, "-c", f"{program}take_memory()"],
            env=own_environment(**marked("shortage")),
            stdin=subprocess.PIPE,
            text=True,
        ) as process:
            (group / "cgroup.procs").write_text(str(process.pid))
            process.communicate("go\n", timeout=240)
        assert process.returncode == -signal.SIGKILL
    assert not group.exists()
