"""Waits that would not end. See `registry`."""

from __future__ import annotations

from strategies.keras_support.defects.repair import GRADIENTS, REDUCES_FIRST, Repair
from strategies.keras_support.workers.collective_calls import CALLBACKS, EVALUATE, FIT, PREDICT_CALL

HANGS = (
    Repair(
        "H1",
        "mixed_float16 hangs several workers when the gradient of one is not finite",
        GRADIENTS,
        (),
        REDUCES_FIRST,
    ),
    Repair(
        "H2",
        "a callback that stops one worker leaves the others waiting for it",
        (CALLBACKS,),
        (),
        "Keras decides to stop on all workers together",
    ),
    Repair(
        "H3",
        "an exception on one worker whose process lives on leaves the others waiting",
        (FIT, EVALUATE, PREDICT_CALL),
        (),
        "Keras reports an error of fit to the cluster",
    ),
    Repair(
        "H4",
        "evaluate or predict on the chief alone waits for the others",
        (FIT, EVALUATE, PREDICT_CALL),
        (),
        "Keras checks that all workers make the call",
    ),
)
