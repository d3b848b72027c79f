"""What the workers write, passed on line by line to one output."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import struct
import sys
import threading
import time
from typing import BinaryIO, TextIO, cast

from tfscale.cli.errors import complain
from tfscale.launch.events import Events, OutputEnded, OutputFailed
from tfscale.launch.prefixed_lines import PrefixedLines

_CHUNK = 1 << 16  # Bytes: what a pipe of Linux holds.


def say(sentence: str) -> None:
    """Prints a line of the launcher's own; that nobody reads it is no reason to end a job."""
    with contextlib.suppress(OSError):
        complain("tfscale launch", f"{sentence}.")


class SharedOutput:
    """The output that all workers share; each write appears in one piece.

    Args:
        stream: A binary stream. None: standard output as it is now, which may be text only (a
            notebook); bytes that are not UTF-8 become replacement characters there.
    """

    def __init__(self, stream: BinaryIO | None) -> None:
        self._lock = threading.Lock()
        self._text: TextIO | None = None
        if stream is None:
            if sys.stdout is None:
                raise OSError(
                    errno.EBADF, "Standard output is closed; send it to /dev/null instead"
                )
            sys.stdout.flush()
            buffer = getattr(sys.stdout, "buffer", None)
            if buffer is None:
                self._text = sys.stdout
            # Raw: a thread that blocks in a buffered write makes the interpreter abort at exit.
            stream = cast(BinaryIO, getattr(buffer, "raw", buffer))
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Writes all of `data`, waiting while the reader of the output does not read.

        Raises:
            OSError: If the output cannot be written.
        """
        with self._lock:
            if self._text is not None:
                self._text.write(data.decode(errors="replace"))
                self._text.flush()
                return
            rest = memoryview(data)
            while rest:
                written = self._stream.write(rest)
                if written is None:  # A terminal that another program left non-blocking.
                    with selectors.DefaultSelector() as selector:
                        selector.register(self._stream, selectors.EVENT_WRITE)
                        selector.select()
                else:
                    rest = rest[written:]
            self._stream.flush()


class OutputRelay:
    """Passes on the lines of one worker, from a thread of its own, until the worker's end.

    Its own thread, so that an output that nobody reads never keeps the supervision from acting.

    Args:
        worker: Index of the worker, for the events.
        name: What its lines begin with, in brackets.
        source: Descriptor of the pipe that the worker writes to. Closed in the end.
        output: Where the lines go, each behind `[name] `.
        events: Gets `OutputFailed` at most once for each of the two, and `OutputEnded` in the end.
        log: File that gets the same lines without prefix. Closed in the end.
    """

    def __init__(
        self,
        worker: int,
        name: str,
        source: int,
        output: SharedOutput,
        events: Events,
        log: BinaryIO | None = None,
    ) -> None:
        self._worker = worker
        self._source = source
        self._output = output
        self._events = events
        self._log = log
        now = time.monotonic()
        self._lines = PrefixedLines(f"[{name}] ".encode(), now=now)
        self._log_lines = PrefixedLines(b"", now=now)
        self._ended, self._end = os.pipe()
        self._output_failed = self._log_failed = False
        # Daemon: after a signal nobody waits for a reader of the output that has stopped reading.
        threading.Thread(target=self._run, name=f"output of {name}", daemon=True).start()

    def end(self) -> None:
        """Says that the worker's group is gone: what is in the pipe now is all that is passed on.

        Without it, a daemon that left the group and kept the pipe open would be waited for.
        """
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._source, selectors.EVENT_READ)
                selector.register(self._ended, selectors.EVENT_READ)
                self._pass_on(selector)
            self._write(self._lines.finish())
            self._write_log(self._log_lines.finish())
        finally:
            if self._log is not None:
                # What is left in the buffer of a file that has failed fails again.
                with contextlib.suppress(OSError):
                    self._log.close()
            os.close(self._source)
            os.close(self._ended)
            self._events.put(OutputEnded(self._worker))

    def _pass_on(self, selector: selectors.BaseSelector) -> None:
        left: int | None = None  # Bytes, once the group is gone.
        while left is None or left > 0:
            if left is None and self._ended in [key.fd for key, _ in selector.select()]:
                left = _bytes_waiting(self._source)
                continue
            chunk = os.read(self._source, _CHUNK if left is None else min(left, _CHUNK))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            now = time.monotonic()
            # The file first: it must not lack what a reader that does not read holds up.
            if self._log is not None:
                self._write_log(self._log_lines.feed(chunk, now))
            self._write(self._lines.feed(chunk, now))

    def _write(self, lines: bytes) -> None:
        if not lines or self._output_failed:
            # Read on after a failure: a worker must not block on a full pipe while it is ended.
            return
        try:
            self._output.write(lines)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed.
            self._output_failed = True
            self._events.put(OutputFailed(getattr(error, "strerror", None) or str(error)))

    def _write_log(self, lines: bytes) -> None:
        if not lines or self._log is None or self._log_failed:
            return
        try:
            self._log.write(lines)
            self._log.flush()
        except OSError as error:
            self._log_failed = True
            self._events.put(OutputFailed(f"{self._log.name}: {error.strerror}"))


def _bytes_waiting(pipe: int) -> int:
    # Here, as Windows lacks both and the package must be importable there to say what it lacks.
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))[0])
