"""Exceptions on one worker, each raised in another place."""

from __future__ import annotations

from tests.faults import injections
from tests.faults.fault import Report, fault
from tests.faults.scene import Scene


@fault("exception", "an exception on worker 1, in a callback")
def exception(scene: Scene) -> Report:
    return scene.injected(injections.EXCEPTION)


@fault("exception in the input", "an exception on worker 1, in a function that `tf.data` maps")
def exception_in_input(scene: Scene) -> Report:
    return scene.injected(injections.INPUT_RAISES)


@fault("exception in a handler", "an exception on worker 1, in the handler of a signal")
def exception_in_handler(scene: Scene) -> Report:
    return scene.injected(injections.HANDLER)


@fault("asynchronous exception", "another thread raises in the main thread of worker 1, in a step")
def asynchronous_exception(scene: Scene) -> Report:
    return scene.injected(injections.ASYNCHRONOUS)
