from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recipes.language.rounds import Rounds, steps_of_a_round
from recipes.language.rows import overlapping_pieces, packed_rows, shifted
from recipes.language.vocabulary import ByteVocabulary
from strategies import one_device_strategy
from tfscale.data import input_pipeline

DOCUMENTS = [b"hello, world", b"a", b"", b"\0\1\2", b"12345678", b"1234567"]


def test_pieces_overlap_by_one_token() -> None:
    documents = [np.array(numbers) for numbers in ([1, 2, 3, 4, 5], [6], [], [7, 8])]
    pieces = overlapping_pieces(documents, start=9, context=2).to_list()
    assert pieces == [[9, 1, 2], [2, 3, 4], [4, 5], [9, 6], [9, 7, 8]]


@pytest.mark.parametrize("context", [1, 3, 8, 100])
def test_every_byte_is_predicted_once_from_what_precedes_it(context: int) -> None:
    source = packed_rows(DOCUMENTS, ByteVocabulary(), context=context, seed=0)
    batch = source.take(tf.range(source.num_examples, dtype=tf.int64))
    inputs, tokens, weights = shifted(batch)
    counted = np.bincount(tokens.numpy()[weights.numpy() == 1], minlength=256)
    text = np.frombuffer(b"".join(DOCUMENTS), np.uint8)
    np.testing.assert_array_equal(counted, np.bincount(text, minlength=256))
    seen = set()
    for row, place in np.argwhere(weights.numpy() == 1):
        position = int(inputs["positions"][row, place])
        begin = place - position
        piece = bytes(inputs["tokens"].numpy()[row, begin : place + 1].astype(np.uint8))
        predicted = bytes([tokens.numpy()[row, place]])
        assert any((piece + predicted) in b"\0" + document for document in DOCUMENTS)
        seen.add(piece + predicted)
    assert b"\0h" in seen


def pipeline() -> Any:
    strategy = one_device_strategy()
    return input_pipeline(np.arange(10), strategy, global_batch_size=4, drop_remainder=True, seed=3)


def test_rounds_are_the_stream_of_the_pipeline_in_other_epochs() -> None:
    stream = [batch.numpy().tolist() for batch in pipeline().local(0).take(7)]
    rounds = Rounds(pipeline(), 3)  # the pipeline has 2 steps an epoch
    assert (rounds.steps_per_epoch, rounds.global_batch_size) == (3, 4)
    assert [batch.numpy().tolist() for batch in rounds.local(0).take(7)] == stream
    later = rounds.at(1, 2)
    assert (later.first_epoch, later.first_step) == (1, 2)
    assert [batch.numpy().tolist() for batch in later.local(0).take(2)] == stream[5:]


def test_a_round_divides_the_training() -> None:
    assert [steps_of_a_round(steps, None) for steps in (1, 7, 12, 600)] == [1, 1, 2, 60]
    assert steps_of_a_round(12, 4) == 4
    with pytest.raises(ValueError, match=r"`--steps_per_validation` must divide.*Use 4\."):
        steps_of_a_round(12, 5)
