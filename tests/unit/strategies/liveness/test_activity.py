"""What a worker is doing, from real stacks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType

import keras
import pytest
from keras.src.callbacks.callback_list import CallbackList

from strategies.liveness.activity import doing
from strategies.progress import OUTSIDE, Place


def frame_inside(run: Callable[[Callable[[], None]], None]) -> FrameType:
    """Returns the innermost frame of a thread in which `run` has called its argument."""
    frames: list[FrameType] = []
    thread = threading.Thread(target=lambda: run(lambda: frames.append(sys._getframe(1))))
    thread.start()
    thread.join()
    return frames[0]


def in_a_callback(look: Callable[[], None]) -> None:
    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            write(look)

    CallbackList([Slow()]).on_epoch_end(0)


def write(look: Callable[[], None]) -> None:
    look()


def test_a_callback_is_named_with_the_line_it_is_at() -> None:
    phrase = doing(Place(0, 8, "callbacks"), "", frame_inside(in_a_callback))
    assert phrase.startswith(
        "is in the callback Slow.on_epoch_end, epoch 1, step 8 (test_activity.py:"
    )
    assert phrase.endswith(" in write)")


def test_a_rendezvous_is_named_with_the_callback_that_led_to_it() -> None:
    phrase = doing(Place(0, 8, "collective"), "evaluate()", frame_inside(in_a_callback))
    assert phrase.startswith("waits at 'evaluate()' in the callback Slow.on_epoch_end, epoch 1, ")


def test_the_line_of_an_input_is_that_of_its_thread() -> None:
    def rows(look: Callable[[], None]) -> None:
        look()

    own, generator = frame_inside(in_a_callback), frame_inside(rows)
    phrase = doing(Place(0, 4, "input"), "", own, [generator])
    assert phrase.startswith("reads its input, epoch 1, step 5 (test_activity.py:")
    assert phrase.endswith(" in rows)")


@pytest.mark.parametrize(
    ("place", "phrase"),
    [
        (OUTSIDE, "is outside of fit, evaluate and predict"),
        (Place(0, 0, "trace"), "traces or compiles its first step, epoch 1, step 1"),
        (Place(0, 5, "step"), "computes, epoch 1, step 5"),
        (Place(1, 5, "save"), "saves, epoch 2, step 5"),
        (Place(0, 0, "evaluate", 3, call="evaluate"), "computes, batch 3 of evaluate"),
    ],
)
def test_without_a_stack_the_place_is_named(place: Place, phrase: str) -> None:
    assert doing(place, "", None) == phrase
