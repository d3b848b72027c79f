"""Calls between `tfscale verify` and its child processes, which do the training.

The parent sends `(method, arguments)`. The child answers with `("said", text)` for progress and
then one of `("done", result)`, `("wrong", text)` for wrong usage, `("refused", text)` for a
configuration that is not supported, and `("raised", text)`. It ends when the connection closes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strategies.extension import Deadline, environment_of_one_process
from tfscale.verify.messages import Candidate, Reference, Request

if TYPE_CHECKING:  # children import these when called
    import numpy as np

    from tfscale.verify.user_model import UserModel


_TAIL = 12
_NOISE = ("InitializeLog()", "oneDNN", "tfscale: ")


class Failed(Exception):
    """Raised when a call in a child process fails.

    Attributes:
        kind: "wrong" (usage), "refused", "raised", "crashed" or "hung".
        text: The message for the user.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class TrialProcess:
    """A separate process, because TensorFlow's devices and the fixes of Keras are per process.

    Args:
        name: Its name in messages, such as "one device".
        request: What is to be verified.
        log: A file for its output.
        hides_cluster: Whether to hide the cluster from it.
        say: Called with each line of progress.
    """

    def __init__(
        self,
        name: str,
        request: Request,
        log: Path,
        hides_cluster: bool,
        say: Callable[[str], None],
    ) -> None:
        self._name = name
        self._seconds = request.timeout_seconds
        self._log = log
        self._say = say
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            # Two processes may share the GPUs, so none may take all of the GPU memory.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        context = multiprocessing.get_context("spawn")  # a fork would inherit threads
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(other, request, str(log), environment, hides_cluster),
            name=f"verify {name}",
        )
        self._process.start()
        other.close()

    def send(self, method: str, *arguments: Any) -> None:
        """Calls a method of the worker; `receive` waits for its result."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` reports it
            self._connection.send((method, arguments))

    def receive(self) -> Any:
        """Returns the result of the last call.

        Raises:
            Failed: If the call fails, the child ends, or the deadline passes.
        """
        deadline = Deadline(self._seconds)
        while True:
            try:
                if not self._connection.poll(deadline.left()):
                    raise Failed("hung", f"{self._name}: took longer than {self._seconds:g} s")
                kind, result = self._connection.recv()
            except (EOFError, ConnectionResetError):
                self._process.join(self._seconds)
                raise Failed("crashed", f"{self._name}: the process {self._end()}") from None
            if kind == "done":
                return result
            if kind != "said":
                raise Failed(kind, result)
            self._say(result)

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of the worker and returns its result; see `send` and `receive`."""
        self.send(method, *arguments)
        return self.receive()

    def tail(self) -> list[str]:
        """Returns the last lines that the child printed, without TensorFlow's start-up messages."""
        text = self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""
        lines = [line for line in text.splitlines() if not any(word in line for word in _NOISE)]
        return [line for line in lines if line.strip()][-_TAIL:]

    def end(self) -> None:
        """Kills the child if it still runs."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _end(self) -> str:
        status = self._process.exitcode
        if status is not None and status < 0:
            return f"was killed by signal {-status}"
        return f"ended with status {status}"


def serve(
    connection: Connection,
    request: Request,
    log: str,
    environment: dict[str, str],
    hides_cluster: bool,
) -> None:
    """Answers calls until the connection closes. Printed output goes to `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    if hides_cluster:  # one device must not see a cluster
        for name in os.environ.keys() - environment_of_one_process(os.environ).keys():
            del os.environ[name]
    worker = Worker(request, lambda text: connection.send(("said", text)))
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        connection.send(answer(getattr(worker, method), arguments))


def answer(method: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Runs a method and returns the answer: its kind, and the result or the error's text."""
    from tfscale.verify.user_model import WrongUsage

    try:
        return "done", method(*arguments)
    except WrongUsage as error:
        return "wrong", str(error)
    except Exception as error:
        return end_of(error)


def end_of(error: Exception) -> tuple[str, str]:
    """Prints an error. Returns "refused" if it is ours, else "raised", and its text."""
    from tfscale.verify.user_model import in_one_line

    traceback.print_exc()
    sys.stderr.flush()
    text = in_one_line(error)[:1500]
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    is_ours = any(Path(raised_in).is_relative_to(folder) for folder in _OURS)
    if isinstance(error, (ValueError, NotImplementedError)) and is_ours:
        return "refused", text.partition(": ")[2]
    return "raised", text


_ROOT = Path(__file__).resolve().parents[2]
_OURS = (_ROOT / "strategies", _ROOT / "tfscale" / "parallel", _ROOT / "tfscale" / "preparation")
"""What refuses a configuration that is not supported."""


class Worker:
    """The methods that a child process offers, and its state between calls."""

    def __init__(self, request: Request, say: Callable[[str], None]) -> None:
        self._request = request
        self._say = say
        self._found: UserModel | None = None
        self._strategy: Any = None

    @property
    def _user_model(self) -> UserModel:
        if self._found is None:
            from tfscale.verify.user_model import UserModel

            self._found = UserModel(self._request.target)
        return self._found

    def import_user_model(self) -> None:
        """Imports the user's module, so that its errors are reported first."""
        _ = self._user_model

    def reference(self, folder: str) -> Reference:
        """Trains on one device twice: with rows in order, and permuted."""
        from tfscale.verify.reference import train_reference

        return train_reference(self._request, self._user_model, self._say, Path(folder))

    def build_strategy(self) -> dict[str, Any]:
        """Builds the strategy before the user's code can initialise TensorFlow."""
        import strategies
        from tfscale.verify.user_model import WrongUsage

        request = self._request
        arguments: dict[str, Any] = {}
        if request.num_replicas is not None:
            arguments["num_replicas"] = request.num_replicas
        if request.parallel is not None:
            arguments["devices_per_replica"] = request.parallel.devices
        if request.shard:
            arguments["shard"] = request.shard
        if request.strategy == "multi_worker_mirrored":
            arguments["bring_up_seconds"] = request.timeout_seconds
        try:
            self._strategy = strategies.strategy_by_name(request.strategy, **arguments)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, NotImplementedError):
                raise
            raise WrongUsage(" ".join(str(error).split())) from error
        resolver = self._strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict() if resolver is not None else {}
        return {
            "num_replicas": self._strategy.num_replicas_in_sync,
            "num_workers": max(1, sum(len(jobs.get(job, ())) for job in ("chief", "worker"))),
        }

    def candidate(self, reference: Reference, file: str) -> Candidate:
        """Trains under the strategy. Only the chief writes the file."""
        import strategies
        from tfscale.verify.known_causes import known_causes, normalizing_microbatches
        from tfscale.verify.trial import Trial, new_model, observe

        request = self._request
        trial = Trial(
            self._user_model,
            self._strategy,
            request.steps,
            reference.is_float64,
            request.seed,
            lambda text: self._say(f"{self._strategy.num_replicas_in_sync} replicas: {text}"),
            request.parallel,
        )
        causes: list[str] = []
        try:
            model, _, _, drawing = new_model(trial, None, reference.batches[0])
            causes = [str(each) for each in known_causes(model, self._strategy, drawing)]
            if request.microbatches > 1:
                causes = [*map(str, normalizing_microbatches(model)), *causes]
            found = observe(
                trial,
                reference.initial,
                reference.batches,
                ordered=reference.batches,
                skip=frozenset(reference.missing),
                save_to=Path(file) if strategies.is_chief(self._strategy) else None,
            )
        except Exception as error:
            return Candidate({}, causes, end_of(error))
        return Candidate(found.arrays, causes)

    def diagnose(self, reference: Reference, off: list[str]) -> list[str]:
        """Runs steps on one device to find why the arrays in `off` differ under a strategy."""
        from tfscale.verify.diagnosis import diagnoses
        from tfscale.verify.trial import Trial

        request = self._request
        trial = Trial(self._user_model, None, 1, reference.is_float64, request.seed, self._say)
        self._say("one device: steps on parts of a batch, to find the cause")
        found = diagnoses(trial, reference.initial, reference.batches, reference.precision, off)
        return [str(each) for each in found]

    def reload(self, file: str, reference: Reference) -> dict[str, np.ndarray]:
        """Loads the strategy's file in this process, which has no strategy."""
        from tfscale.verify.trial import reload

        return reload(Path(file), self._user_model, reference.batches)

    def exchange(self, topic: str, text: str) -> list[str]:
        """Exchanges a text with all workers and returns the texts of all, by worker."""
        from strategies.extension import exchange

        return exchange(self._strategy, topic, text)
