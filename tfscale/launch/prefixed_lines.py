r"""Splits the output of a process into lines and adds a prefix to each.

Example:
    >>> lines = PrefixedLines(b"[worker 0] ", now=0.0)
    >>> lines.feed(b"Epoch 1/3\nlo", now=0.1)
    b'[worker 0] Epoch 1/3\n'
    >>> lines.finish()
    b'[worker 0] lo\n'
"""

from __future__ import annotations

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
