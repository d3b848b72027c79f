"""The server of a data worker: computes the replica batches that it is asked for."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import tensorflow as tf

from tfscale.data.pipeline import Pipeline, replica_batches_at
from tfscale.data.service.description import Description, digest
from tfscale.data.service.messages import (
    CHANNEL_OPTIONS,
    SERVICE,
    Question,
    Share,
    serialized_parts,
    to_answer,
)
from tfscale.data.sources import RandomAccessSource

# An error travels in a header, which gRPC limits to 8 KiB; other letters than ASCII count thrice.
_LONGEST_ERROR = 2000
Batches = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps an epoch and a step to the serialized parts of replica batches."""
_LOCAL = ("127.", "localhost:", "[::1]:")


class BatchServer:
    """Serves the batches of pipelines at an address, from construction until `stop`.

    Args:
        pipelines: Of sources with random access.
        descriptions: Their descriptions.
        address: "host:port". A host that is not this host's loopback means all interfaces.
        job: The name of the job; questions of other jobs are refused.

    Raises:
        RuntimeError: If the port is in use.
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        descriptions: list[Description],
        address: str,
        job: str,
    ) -> None:
        self._pipelines = pipelines
        self._descriptions = descriptions
        self._digest = digest(descriptions)
        self._job = job
        self._tracing = threading.Lock()
        self._functions: dict[Share, Batches] = {}
        handlers = {
            "Describe": grpc.unary_unary_rpc_method_handler(self._describe),
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
        }
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1)),
            # Otherwise two processes could listen on one port.
            options=(*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)),
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        bound = address if address.startswith(_LOCAL) else f"[::]:{address.rpartition(':')[2]}"
        self._server.add_insecure_port(bound)
        self._server.start()

    def stop(self) -> None:
        """Ends the service; requests in progress are cancelled."""
        self._server.stop(grace=None)

    def _describe(self, _request: bytes, _context: Any) -> bytes:
        return json.dumps({"job": self._job, "pipelines": self._descriptions}).encode()

    def _get(self, request: bytes, context: Any) -> bytes:
        question = Question.from_bytes(request)
        if (question.job, question.digest) != (self._job, self._digest):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "other pipelines")
        try:
            with self._tracing:  # one trace of a function, not one for each thread
                batches = self._batches_of(question.share)
            parts = batches(
                tf.constant(question.epoch, tf.int64), tf.constant(question.step, tf.int64)
            )
            return to_answer(parts.numpy())
        except Exception as error:  # whatever the user's source raises
            text = f"{type(error).__name__}: {error}"
            context.abort(grpc.StatusCode.ABORTED, _both_ends(text))
            raise

    def _batches_of(self, share: Share) -> Batches:
        if share not in self._functions:
            self._functions[share] = self._traced(share)
        return self._functions[share]

    def _traced(self, share: Share) -> Batches:
        pipeline = self._pipelines[share.pipeline]
        assert isinstance(pipeline.source, RandomAccessSource)
        division = pipeline.source.division(
            share.batch_size, drop_remainder=pipeline.drop_remainder
        )
        pipeline = dataclasses.replace(pipeline, division=division)

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
        def batches(epoch: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
            with tf.device("CPU:0"):
                found = replica_batches_at(
                    pipeline,
                    share.first_replica,
                    share.local_replicas,
                    share.num_replicas,
                    epoch,
                    step,
                )
                return serialized_parts(found)

        traced: Batches = batches.get_concrete_function()
        return traced


def _both_ends(text: str) -> str:
    """Returns a text that is not too long: what failed is at its begin, why often at its end."""
    if len(text) <= _LONGEST_ERROR:
        return text
    half = _LONGEST_ERROR // 2
    return f"{text[:half]} ... {text[-half:]}"
