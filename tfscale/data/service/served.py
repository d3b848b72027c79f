"""`served`: serves pipelines in a data worker, and reads them from data workers in a trainer."""

from __future__ import annotations

import atexit
import dataclasses
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn, overload

import tensorflow as tf

from strategies.extension import (
    JOB_VARIABLE,
    announce,
    number,
    own_data_workers,
    start_seconds_from_environment,
)
from tfscale.data.batches import steps_ahead
from tfscale.data.pipeline import Pipeline
from tfscale.data.service.description import Description, description
from tfscale.data.service.messages import (
    Question,
    Share,
    batches_of_parts,
    num_parts,
    parts_of_answer,
)
from tfscale.data.sources import RandomAccessSource

if TYPE_CHECKING:
    from tfscale.data.service.workers import Workers


@overload
def served(pipeline: Pipeline, /, *, deadline_seconds: float = ...) -> Pipeline: ...
@overload
def served(
    pipeline: Pipeline, /, *pipelines: Pipeline, deadline_seconds: float = ...
) -> tuple[Pipeline, ...]: ...
def served(
    pipeline: Pipeline, /, *pipelines: Pipeline, deadline_seconds: float = 300.0
) -> Pipeline | tuple[Pipeline, ...]:
    """Lets data workers compute the batches of pipelines; without data workers, changes nothing.

    Start the program with `tfscale launch --num_data_workers=2 -- python train.py`. All processes
    run the same program. In a data worker this call serves the pipelines until the job ends, and
    does not return. In a worker that trains it returns pipelines with the same batches, bit for
    bit, which are computed by the data workers. They resume in mid-epoch like any other pipeline.
    Call it once, with all pipelines, after the strategy is built and before `fit`.

    A data worker keeps no state: the batch of a step is a function of the step. If one is killed or
    stops, its steps are computed by the others. `tfscale launch` restarts it.

    A data worker has no GPU, and its strategy has other replicas than that of the workers. Only the
    global batch size may depend on that: the workers' counts.

    On several hosts, start every process of the program yourself, with TFSCALE_DATA_WORKERS set to
    "host:port,host:port", and with TFSCALE_DATA_WORKER, 0, 1, ..., in each data worker, which you
    also end. Its port is not authenticated, so keep it in a closed network. On one host it listens
    on the loopback interface only.

    Args:
        pipeline: A pipeline of a source with random access.
        pipelines: Others, for instance for validation.
        deadline_seconds: Seconds without an answer from any data worker after which reading raises
            an error. Positive.

    Returns:
        The pipeline, or a tuple of pipelines if several were passed.

    Raises:
        ValueError: If a source is a `tf.data.Dataset`, which has no random access, or if a data
            worker has other pipelines.
        TimeoutError: If no data worker has started within `tfscale launch --start_seconds`.
        SystemExit: In a data worker, with status 0: when the job ends.

    Example:
        >>> strategy = strategies.mirrored_strategy(num_replicas=2)
        >>> examples = np.eye(10), np.arange(10)
        >>> train = tfscale.data.input_pipeline(examples, strategy, global_batch_size=4)
        >>> train = served(train)  # `train` itself, without data workers
        >>> train.steps_per_epoch
        3
    """
    everything = (pipeline, *pipelines)
    cure = "Omit it for the default of 300 s."
    number("deadline_seconds", deadline_seconds, "positive and finite", lambda s: s > 0, cure=cure)
    for part in everything:
        if not isinstance(part, Pipeline) or not isinstance(part.source, RandomAccessSource):
            received = part.source if isinstance(part, Pipeline) else part
            raise ValueError(
                "`pipeline` must be made by input_pipeline from a source with random access. "
                f"Received: {type(received).__name__}. Use arrays, or files that tfscale.data "
                "reads."
            )
    workers = own_data_workers()
    if workers is None:
        return everything if pipelines else pipeline
    descriptions = [description(part) for part in everything]
    job = os.environ.get(JOB_VARIABLE, "")
    if workers.index is not None:
        _serve(everything, descriptions, workers.index, workers.addresses[workers.index], job)
    from tfscale.data.service.workers import Workers

    client = Workers(workers.addresses, job, descriptions, deadline_seconds)
    client.await_first(start_seconds_from_environment())
    atexit.register(client.close)
    announce(f"{len(workers.addresses)} data worker(s) compute the input.")
    results = tuple(
        ServedPipeline(
            **{field.name: getattr(part, field.name) for field in dataclasses.fields(part)},
            workers=client,
            number=place,
        )
        for place, part in enumerate(everything)
    )
    return results if pipelines else results[0]


@dataclasses.dataclass(frozen=True, eq=False)
class ServedPipeline(Pipeline):
    """A pipeline whose batches are computed by data workers.

    Attributes:
        workers: The data workers.
        number: Its number among the pipelines that are served together.
    """

    workers: Workers = dataclasses.field(kw_only=True)
    number: int = dataclasses.field(kw_only=True)

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns the same elements as `Pipeline.replica_batches`, from the data workers."""
        from tfscale.data.service.batch_stream import BatchStream

        spec = super().replica_batches(worker).element_spec
        count, replicas = self.local_replicas, self.strategy.num_replicas_in_sync
        share = Share(self.number, self.global_batch_size, worker * count, count, replicas)
        num_workers = len(self.workers.all)
        most_rows = -(-self.global_batch_size // replicas)
        ahead = steps_ahead(spec, most_rows, count, num_workers)

        size = count * num_parts(spec)
        nothing_yet = [b""] * size

        def answers() -> Iterator[list[bytes]]:
            for answer in BatchStream(self.workers, self._questions(share), ahead):
                yield parts_of_answer(answer) if answer else nothing_yet

        found = tf.data.Dataset.from_generator(
            answers, output_signature=tf.TensorSpec([size], tf.string)
        )
        found = found.filter(lambda parts: tf.reduce_any(tf.strings.length(parts) > 0))
        batches = batches_of_parts(found, spec, count)
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.apply(endless).prefetch(count)

    def _questions(self, share: Share) -> Iterator[Question]:
        first = self.first_epoch * self.steps_per_epoch + self.first_step
        for position in itertools.count(first):
            epoch, step = divmod(position, self.steps_per_epoch)
            yield Question(self.workers.job, self.workers.digest, share, epoch, step)


def _serve(
    pipelines: tuple[Pipeline, ...],
    descriptions: list[Description],
    index: int,
    address: str,
    job: str,
) -> NoReturn:
    from tfscale.data.service.batch_server import BatchServer

    ended = threading.Event()
    for end_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end_signal, lambda *_: ended.set())
    server = BatchServer(pipelines, descriptions, address, job)
    announce(f"data worker {index} serves {len(pipelines)} pipeline(s) at {address}.")
    while not ended.wait(1.0):  # a signal that another thread got is handled after a slice
        pass
    server.stop()
    sys.exit(0)
