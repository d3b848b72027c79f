"""What an error of a graph means, said as plainly as all other errors.

TensorFlow reports a failed assertion with the operations around it, twice where two replicas saw
it. What an assertion of ours said is raised as the ValueError it stands for. Any other error about
sizes is given a note: a program that writes the batch size as a number fails on a share.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

_OURS = re.compile(r"assertion failed: \[(`[^\n]*?Received: [^\n]*?\.)\]")


@contextlib.contextmanager
def plain_refusals(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises what an assertion of ours says, if one fails inside, as a ValueError.

    Args:
        strategy: The model's.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _OURS.search(str(error))
        if found is None:
            replicas = strategy.num_replicas_in_sync
            if replicas > 1:
                error.add_note(
                    f"Each of {replicas} replicas computes a part of the batch. Where the model or "
                    "its step writes the batch size as a number, take it from tf.shape(x)[0]."
                )
            raise
        raise ValueError(found.group(1).replace("\\'", "'")) from error
