"""What a child process of `tfscale verify` does, one order after another.

A child is asked `(order, arguments)` and answers `("said", text)` while at work and then one of
`("done", result)`, `("wrong", text)` for wrong usage, `("refused", text)` for a configuration that
cannot be right, and `("raised", text)`. It ends when the other end of the connection does.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfscale.verify.messages import Candidate, Reference, Request

if TYPE_CHECKING:  # children import these when the order comes
    import numpy as np

    from tfscale.verify.user_model import Subject


def serve(connection: Connection, request: Request, log: str, environment: dict[str, str]) -> None:
    """Answers orders until there are no more; what is printed meanwhile goes to `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    if "TF_CONFIG" in environment and not environment["TF_CONFIG"]:
        del os.environ["TF_CONFIG"]  # one device knows no cluster
    desk = Desk(request, lambda text: connection.send(("said", text)))
    while True:
        try:
            order, arguments = connection.recv()
        except EOFError:
            return
        connection.send(answer(getattr(desk, order), arguments))


def answer(order: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Carries an order out; returns how it ended and what came of it."""
    from tfscale.verify.user_model import WrongUsage

    try:
        return "done", order(*arguments)
    except WrongUsage as error:
        return "wrong", str(error)
    except Exception as error:
        return end_of(error)


def end_of(error: Exception) -> tuple[str, str]:
    """Tells a refusal, which names its cure, from an error; leaves the whole of it in the log."""
    from tfscale.verify.user_model import in_one_line

    traceback.print_exc()
    sys.stderr.flush()
    text = in_one_line(error)[:1500]
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    is_ours = Path(raised_in).is_relative_to(_STRATEGIES)
    if isinstance(error, (ValueError, NotImplementedError)) and is_ours:
        return "refused", text.partition(": ")[2]
    return "raised", text


_STRATEGIES = Path(__file__).resolve().parents[2] / "strategies"


class Desk:
    """The orders of a child process, and what it keeps between them."""

    def __init__(self, request: Request, say: Callable[[str], None]) -> None:
        self._request = request
        self._say = say
        self._found: Subject | None = None
        self._strategy: Any = None

    @property
    def _subject(self) -> Subject:
        if self._found is None:
            from tfscale.verify.user_model import Subject

            self._found = Subject(self._request.target)
        return self._found

    def import_subject(self) -> None:
        """Imports the user's module, to say at once what is wrong with it."""
        _ = self._subject

    def reference(self, folder: str) -> Reference:
        """Trains on one device, twice: as given, and with permuted rows."""
        from tfscale.verify.reference import train_reference

        return train_reference(self._request, self._subject, self._say, Path(folder))

    def build_strategy(self) -> dict[str, Any]:
        """Builds the strategy, before anything of the user's may start TensorFlow."""
        import strategies
        from tfscale.verify.user_model import WrongUsage

        request = self._request
        arguments: dict[str, Any] = {}
        if request.num_replicas is not None:
            arguments["num_replicas"] = request.num_replicas
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
        """Trains under the strategy; only the chief writes the file."""
        import strategies
        from tfscale.verify.known_causes import suspects_of
        from tfscale.verify.model import Trial, new_model
        from tfscale.verify.trial import observe

        request = self._request
        trial = Trial(
            self._subject,
            self._strategy,
            request.steps,
            reference.is_float64,
            request.seed,
            lambda text: self._say(f"{self._strategy.num_replicas_in_sync} replicas: {text}"),
        )
        suspects: list[str] = []
        try:
            model, _, _, drawing = new_model(trial, None, reference.batches[0])
            suspects = [str(each) for each in suspects_of(model, self._strategy, drawing)]
            found = observe(
                trial,
                reference.initial,
                reference.batches,
                ordered=reference.batches,
                skip=frozenset(reference.missing),
                save_to=Path(file) if strategies.is_chief(self._strategy) else None,
            )
        except Exception as error:
            return Candidate({}, suspects, end_of(error))
        return Candidate(found.arrays, suspects)

    def diagnose(self, reference: Reference, off: list[str]) -> list[str]:
        """Takes steps on one device to say why the arrays in `off` differ under a strategy."""
        from tfscale.verify.diagnosis import diagnoses
        from tfscale.verify.model import Trial

        request = self._request
        trial = Trial(self._subject, None, 1, reference.is_float64, request.seed, self._say)
        self._say("one device: steps on parts of a batch, to say why")
        found = diagnoses(trial, reference.initial, reference.batches, reference.precision, off)
        return [str(each) for each in found]

    def reload(self, file: str, reference: Reference) -> dict[str, np.ndarray]:
        """Loads the strategy's file in this process, which knows no strategy."""
        from tfscale.verify.trial import reload

        return reload(Path(file), self._subject, reference.batches)

    def meet(self, question: str, answer: str) -> list[str]:
        """Asks all workers a question; returns their answers."""
        from strategies.extension import exchange

        return exchange(self._strategy, question, answer)
