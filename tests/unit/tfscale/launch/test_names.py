from __future__ import annotations

import queue

import pytest

from tfscale.launch.events import Events, OutputEnded, SignalReceived
from tfscale.launch.hosts import await_names


def test_names_and_numbers_of_this_host_have_addresses() -> None:
    events: Events = queue.SimpleQueue()
    assert await_names(["localhost", "127.0.0.1", "[::1]", "localhost"], 30.0, events) is None


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", f"{'x' * 64}.invalid"])
def test_a_name_without_address_is_an_error_and_said_once(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match=r"after 0\.3 s there is still no address for host '") as no:
        await_names(["localhost", name], 0.3, queue.SimpleQueue())
    assert repr(name) in str(no.value)
    assert "localhost" not in str(no.value)
    assert capsys.readouterr().err.count("has no address") <= 1


def test_a_signal_ends_the_wait_and_other_events_do_not() -> None:
    events: Events = queue.SimpleQueue()
    events.put(OutputEnded(0))
    events.put(SignalReceived(15))
    assert await_names(["no-such-host.invalid"], 600.0, events) == 15
