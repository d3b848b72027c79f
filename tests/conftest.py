"""What all tests need of the process that they run in."""

from __future__ import annotations

import signal
import threading


def pytest_configure() -> None:
    """Lets programs that tests start be interrupted.

    A shell starts its background jobs with SIGINT ignored, and what is ignored stays so in all
    programs below.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
