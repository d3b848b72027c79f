"""Waits that would not end. See `registry`."""

from __future__ import annotations

from strategies.keras_support.defects.fix import GRADIENTS, REDUCES_FIRST, Fix
from strategies.keras_support.workers.collective_calls import CALLBACKS, EVALUATE, FIT, PREDICT_CALL

HANGS = (
    Fix(
        "H1",
        "mixed_float16 hangs several workers when the gradient of one is not finite",
        GRADIENTS,
        (),
        REDUCES_FIRST,
    ),
    Fix(
        "H2",
        "a callback that stops one worker leaves the others waiting for it",
        (CALLBACKS,),
        (),
        "Keras decides to stop on all workers together",
    ),
    Fix(
        "H3",
        "an exception on one worker whose process lives on leaves the others waiting",
        (FIT, EVALUATE, PREDICT_CALL),
        (),
        "Keras reports an error of fit to the cluster",
    ),
    Fix(
        "H4",
        "evaluate or predict on the chief alone waits for the others",
        (FIT, EVALUATE, PREDICT_CALL),
        (),
        "Keras checks that all workers make the call",
    ),
)
