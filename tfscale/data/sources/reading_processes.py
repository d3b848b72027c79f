"""Processes that read the examples of a Python dataset, beside Python's lock of this one."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import select
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from tfscale.data.python_calls import stop_at_end
from tfscale.data.sources import examples
from tfscale.data.sources.examples import receive, send

_READER = "TFSCALE_READ_WORKER"
_START_SECONDS = 120.0


class ReadingProcesses:
    """Some processes that read; each reads a part of every batch.

    They start at the first batch, see no GPU, and end with `close`, with the interpreter, and when
    this process dies.

    Args:
        dataset: The dataset. Must be picklable.
        arguments: Those of `Examples` after the dataset.
        count: Processes. Positive.
        deadline_seconds: Most time that one may take for its part of a batch. Positive.

    Raises:
        ValueError: If the dataset is not picklable.
        RuntimeError: If this process is itself one that reads.
    """

    def __init__(
        self, dataset: Any, arguments: tuple[Any, ...], count: int, deadline_seconds: float
    ) -> None:
        if _READER in os.environ:  # at once: an error within tf.data may keep a process from ending
            raise RuntimeError(
                "A process that reads must not start others. Put the code that trains under "
                "`if __name__ == '__main__':`, or the dataset's class into a module of its own."
            )
        self._content = (dataset, *arguments)
        self._count, self._deadline_seconds = count, deadline_seconds
        self._starting = threading.Lock()
        self._processes: list[_Process] = []
        self._turn = 0
        self._start_failure: str | None = None
        # TensorFlow keeps every function that it has traced, and so this object: this is for the
        # end of the interpreter.
        stop_at_end(weakref.finalize(self, _end, self._processes))
        self._pickled(_Nowhere())

    def read(self, indices: np.ndarray) -> list[list[Any]]:
        """Returns what `Examples.read` returns, for consecutive parts of `indices`.

        Raises:
            ValueError: If an example is not like the others.
            RuntimeError: If the dataset raises, or a process ends.
            TimeoutError: If one takes longer than the deadline.
        """
        processes = self._started()
        chunks = np.array_split(indices, min(self._count, max(1, len(indices))))
        # A small batch needs few of them: others next time. Locks are taken in one order.
        self._turn += len(chunks)
        chosen = sorted((self._turn + i) % self._count for i in range(len(chunks)))
        with contextlib.ExitStack() as locks:
            try:
                for number, chunk in zip(chosen, chunks, strict=True):
                    locks.enter_context(processes[number].lock)
                    processes[number].ask(chunk)
                return [
                    processes[number].answer(self._deadline_seconds, chunk)
                    for number, chunk in zip(chosen, chunks, strict=True)
                ]
            except BaseException:
                # The answers of the others are not wanted any more. The next read starts all again.
                with self._starting:
                    if self._processes == processes:
                        _end(self._processes)
                raise

    def close(self) -> None:
        """Ends the processes. The next read starts them again."""
        with self._starting:
            self._start_failure = None
            _end(self._processes)

    def _started(self) -> list[_Process]:
        with self._starting:
            if self._start_failure is not None:  # each batch read ahead would try again, in turn
                raise RuntimeError(self._start_failure)
            if not self._processes:
                content = io.BytesIO()
                self._pickled(content)
                start = pickle.dumps((sys.path, _main_of(content.getvalue()), content.getvalue()))
                try:
                    for _ in range(self._count):
                        self._processes.append(_Process(start))
                    for process in self._processes:
                        process.answer(max(_START_SECONDS, self._deadline_seconds), None)
                except BaseException as error:
                    self._start_failure = str(error)
                    _end(self._processes)
                    raise
            return list(self._processes)

    def _pickled(self, stream: Any) -> None:
        try:
            pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(self._content)
        except Exception as error:  # whatever a user's class raises
            raise ValueError(
                "`dataset` must be picklable if `read_workers` is positive. Received: "
                f"{type(self._content[0]).__qualname__} ({type(error).__name__}: {error}). Open "
                "files and connections in __getitem__ and define functions in a module, or pass "
                "read_workers=0."
            ) from error


class _Process:
    """One process, which answers one question after the other."""

    def __init__(self, start: bytes) -> None:
        self.lock = threading.Lock()
        self._has_ended = False
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", _READER: "1"}
        environment.setdefault("OMP_NUM_THREADS", "1")
        # -P: the folder of the program, which is this package's, is no place for modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(examples.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._write(start)

    def ask(self, indices: np.ndarray) -> None:
        """Sends a question."""
        if self._has_ended:
            raise _ended()
        self._write(np.ascontiguousarray(indices, np.int64).tobytes())

    def answer(self, seconds: float, indices: np.ndarray | None) -> Any:
        """Returns the answer to the first question that has none yet."""
        assert self._process.stdout is not None
        answers = self._process.stdout
        about = "at its start" if indices is None else f"at examples {_listed(indices)}"
        if not self._waits(seconds):
            raise TimeoutError(
                f"A process that reads `dataset` has not answered for {seconds:g} s {about}. Find "
                "what __getitem__ waits for, with read_workers=0 in a debugger, or pass a larger "
                "deadline_seconds."
            )
        message = receive(answers)  # type: ignore[arg-type]
        if message is None:
            if self._has_ended:
                raise _ended()
            raise RuntimeError(
                f"A process that reads `dataset` ended with status {self._status()} {about}. "
                "-9 is usually the system's: memory was short. Pass a smaller read_workers; 0 "
                "shows a crash of __getitem__ in this process."
            )
        kind, content = pickle.loads(message)
        if kind == "wrong":
            raise ValueError(content)
        if kind in ("failed", "start"):
            reason, trace = content
            cure = (
                "Fix its __getitem__; read_workers=0 shows it in this process."
                if kind == "failed"
                else "Its module must be importable in another process."
            )
            raise RuntimeError(f"`dataset` raised {reason} {about}. {cure}\n{trace}")
        return content

    def end(self) -> None:
        """Ends the process now."""
        self._has_ended = True
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()

    def _waits(self, seconds: float) -> bool:
        """Waits for the first bytes of an answer. Returns whether they came in time."""
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        until = time.monotonic() + seconds
        while True:  # looks once more at the end: this process may have stood still meanwhile
            left = max(0.0, until - time.monotonic())
            if poll.poll(min(left, 1.0) * 1000):
                return True
            if not left:
                return False

    def _status(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(5.0)
        return None

    def _write(self, message: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says how the process ended
            send(self._process.stdin, message)  # type: ignore[arg-type]


class _Nowhere:
    """A file that forgets what is written."""

    def write(self, content: bytes) -> int:
        return len(content)


def _ended() -> RuntimeError:
    return RuntimeError(
        "The processes that read `dataset` ended with an earlier error. See it first."
    )


def _end(processes: list[_Process]) -> None:
    for process in processes:
        process.end()
    processes.clear()


def _listed(indices: np.ndarray) -> str:
    shown = ", ".join(str(index) for index in indices[:5])
    return f"{shown}, ... ({len(indices)} in all)" if len(indices) > 5 else shown


def _main_of(pickled: bytes) -> dict[str, Any]:
    """Returns how a process finds the user's program, if the dataset's class is part of it."""
    if b"__main__" not in pickled:
        return {}
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return {"init_main_from_name": spec.name, "sys_argv": sys.argv}
    path = getattr(main, "__file__", None)
    if path is None:
        raise ValueError(
            "`dataset` must be of a class in a module if `read_workers` is positive. Received: one "
            "of an interactive session, which another process cannot import. Move the class to a "
            "file, or pass read_workers=0."
        )
    return {"init_main_from_path": str(Path(path).resolve()), "sys_argv": sys.argv}
