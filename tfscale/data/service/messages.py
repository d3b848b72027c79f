"""What a trainer and a data worker send each other: questions in JSON, batches by TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

SERVICE = "tfscale.DataWorker"
# A batch may be larger than the 4 MB that gRPC accepts by default; an error has up to 8 KiB.
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.enable_http_proxy", 0),  # a proxy reaches neither this host nor the job's network
)


@dataclass(frozen=True)
class Share:
    """Which replica batches of a step are asked for, and of which pipeline.

    Attributes:
        pipeline: Its number among those that are served together.
        batch_size: The global batch size.
        first_replica: Index of the first replica.
        local_replicas: Number of replicas. Positive.
        num_replicas: Replicas of all workers.
    """

    pipeline: int
    batch_size: int
    first_replica: int
    local_replicas: int
    num_replicas: int


@dataclass(frozen=True)
class Question:
    """A request for the replica batches of one step.

    Attributes:
        job: The name of the job, so that a data worker of another job does not answer.
        digest: Of the descriptions of the trainer's pipelines.
        share: Which replica batches.
        epoch: Not negative.
        step: In `[0, steps_per_epoch)`.
    """

    job: str
    digest: str
    share: Share
    epoch: int
    step: int

    def to_bytes(self) -> bytes:
        """Returns the question as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Question:
        """Reads what `to_bytes` returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            fields = json.loads(content)
            return cls(**{**fields, "share": Share(**fields["share"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"This is no question to a data worker: {content[:100]!r}.") from error


def serialized_parts(batches: list[Any]) -> tf.Tensor:
    """Returns the parts of structures of tensors, as strings [structures * parts]. Traced."""
    return tf.stack([tf.io.serialize_tensor(part) for batch in batches for part in _parts(batch)])


def to_answer(parts: np.ndarray) -> bytes:
    """Returns the message for serialized parts."""
    message: bytes = tf.train.BytesList(value=parts.tolist()).SerializeToString()
    return message


def parts_of_answer(answer: bytes) -> list[bytes]:
    """Returns the serialized parts of a message."""
    return list(tf.train.BytesList.FromString(answer).value)


def batches_of_parts(parts: tf.data.Dataset, spec: Any, count: int) -> tf.data.Dataset:
    """Returns the structures that `serialized_parts` serialized, one after the other.

    Args:
        parts: Strings [count * parts].
        spec: Structure of `tf.TypeSpec` of one structure.
        count: Structures in each element. Positive.
    """
    specs = _parts(spec)

    def batch(serialized: tf.Tensor) -> Any:
        found = []
        for number, part in enumerate(specs):
            tensor = tf.io.parse_tensor(serialized[number], part.dtype)
            tensor.set_shape(part.shape)
            found.append(tensor)
        return tf.nest.pack_sequence_as(spec, found, expand_composites=True)

    if count > 1:
        parts = parts.map(lambda strings: tf.reshape(strings, [count, len(specs)])).unbatch()
    return parts.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def num_parts(spec: Any) -> int:
    """Returns the number of tensors that a structure consists of."""
    return len(_parts(spec))


def _parts(structure: Any) -> list[Any]:
    return list(tf.nest.flatten(structure, expand_composites=True))
