"""Passes the workers' output on to one stream, line by line."""

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

# Longer lines are cut, so that a worker that never ends a line does not fill the memory.
LONGEST_LINE = 1 << 20


class PrefixedLines:
    r"""Splits bytes into lines and adds a prefix to each. The bytes need not be UTF-8.

    A line that overwrites itself with carriage returns, such as a progress bar, is shown in its
    final form. Before that, it is shown every `progress_seconds` on a separate line. Otherwise the
    bars of several workers would overwrite each other on a terminal, and a log would contain every
    update.

    Args:
        prefix: The start of every line.
        now: The current time on a monotonic clock, in seconds.
        progress_seconds: Shortest time between two views of a line that overwrites itself.
    """

    def __init__(self, prefix: bytes, *, now: float, progress_seconds: float = 5.0) -> None:
        self._prefix = prefix
        self._progress_seconds = progress_seconds
        self._last_line_at = now
        self._unfinished = bytearray()  # Since the last newline or carriage return.
        self._overwritten = b""  # What the last carriage return began to overwrite.

    def feed(self, chunk: bytes, now: float) -> bytes:
        """Returns the lines that `chunk` completes, with prefix."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            self._extend(end)
            lines.append(self._take_line())
        self._extend(rest)
        if len(self._unfinished) > LONGEST_LINE:
            lines.append(self._take_line())
        if lines:
            self._last_line_at = now
        elif self._overwritten and now - self._last_line_at >= self._progress_seconds:
            # The text before the last carriage return, because what follows may be incomplete.
            lines.append(self._overwritten)
            self._last_line_at = now
        return b"".join(self._prefix + line + b"\n" for line in lines)

    def finish(self) -> bytes:
        """Returns the last line, with prefix, if it does not end with a newline; else nothing."""
        if not self._unfinished and not self._overwritten:
            return b""
        return self._prefix + self._take_line() + b"\n"

    def _extend(self, piece: bytes) -> None:
        *overwritten, rest = piece.split(b"\r")
        for segment in overwritten:
            self._unfinished += segment
            self._overwritten = _visible(self._unfinished) or self._overwritten
            self._unfinished.clear()
        self._unfinished += rest

    def _take_line(self) -> bytes:
        line = bytes(self._unfinished)
        if self._overwritten:
            line = _visible(line) or self._overwritten
        self._unfinished.clear()
        self._overwritten = b""
        return line


def _visible(segment: bytes | bytearray) -> bytes:
    # Keras writes backspaces before each carriage return, and pads a shorter bar with spaces
    # (keras/src/utils/progbar.py). The backspaces would erase the prefix.
    return bytes(segment).lstrip(b"\b").rstrip(b"\b ")


_CHUNK = 1 << 16  # Bytes: the capacity of a Linux pipe.


def say(sentence: str) -> None:
    """Prints a message of the launcher. A closed standard error does not end the job."""
    with contextlib.suppress(OSError):
        complain("tfscale launch", f"{sentence}.")


class SharedOutput:
    """The output that all workers share. Each write appears in one piece.

    Args:
        stream: A binary stream. None uses the current standard output. If that accepts only text,
            as in a notebook, bytes that are not UTF-8 become replacement characters.
    """

    def __init__(self, stream: BinaryIO | None) -> None:
        self._lock = threading.Lock()
        self._text: TextIO | None = None
        if stream is None:
            if sys.stdout is None:
                raise OSError(
                    errno.EBADF, "Standard output is closed; redirect it to /dev/null instead"
                )
            sys.stdout.flush()
            buffer = getattr(sys.stdout, "buffer", None)
            if buffer is None:
                self._text = sys.stdout
            # Raw, because a thread that blocks in a buffered write makes Python abort at exit.
            stream = cast(BinaryIO, getattr(buffer, "raw", buffer))
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Writes all of `data`. Blocks while the reader of the output does not read.

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
                if written is None:  # A terminal that another program set to non-blocking.
                    with selectors.DefaultSelector() as selector:
                        selector.register(self._stream, selectors.EVENT_WRITE)
                        selector.select()
                else:
                    rest = rest[written:]
            self._stream.flush()


class OutputRelay:
    """Passes on the lines of one worker until its end.

    Runs in its own thread, so that a blocked output never blocks the supervision.

    Args:
        worker: Index of the worker, for the events.
        name: The name in brackets at the start of each line.
        source: Descriptor of the pipe that the worker writes to. Closed at the end.
        output: Receives the lines, each prefixed with `[name] `.
        events: Receives `OutputFailed` at most once for `output` and once for `log`, and
            `OutputEnded` at the end.
        log: File that receives the same lines without prefix. Closed at the end.
        has_prefix: Whether lines get a prefix; not if they have one already.
    """

    def __init__(
        self,
        worker: int,
        name: str,
        source: int,
        output: SharedOutput,
        events: Events,
        log: BinaryIO | None = None,
        has_prefix: bool = True,
    ) -> None:
        self._worker = worker
        self._source = source
        self._output = output
        self._events = events
        self._log = log
        now = time.monotonic()
        self._lines = PrefixedLines(f"[{name}] ".encode() if has_prefix else b"", now=now)
        self._log_lines = PrefixedLines(b"", now=now)
        self._ended, self._end = os.pipe()
        self._output_failed = self._log_failed = False
        # Daemon, so that after a signal the process does not wait for a reader that has stopped.
        threading.Thread(target=self._run, name=f"output of {name}", daemon=True).start()

    def end(self) -> None:
        """Reports that the worker's group has ended. Only what is in the pipe now is passed on.

        Without this call the relay would wait for a daemon that left the group and kept the pipe.
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
                # Flushing the buffer of a file that has failed fails again.
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
            # The log first, so that a blocked reader of the output does not delay it.
            if self._log is not None:
                self._write_log(self._log_lines.feed(chunk, now))
            self._write(self._lines.feed(chunk, now))

    def _write(self, lines: bytes) -> None:
        if not lines or self._output_failed:
            # Continue reading after a failure: a worker that is being ended must not block on a
            # full pipe.
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
    # Imported here, because Windows has neither, and the package must be importable there for its
    # error message.
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))[0])
