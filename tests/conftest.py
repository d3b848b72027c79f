"""What all tests need of the process that they run in."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Generator

import pytest


def pytest_configure() -> None:
    """Lets programs that tests start be interrupted.

    A shell starts its background jobs with SIGINT ignored, and what is ignored stays so in all
    programs below.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector away from what collection has made, for the whole run.

    TensorFlow, Keras and ten thousand tests are millions of objects that stay to the end. Looking
    at them again and again took a tenth of the processor time of the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
