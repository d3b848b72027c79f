"""Refusals that only a graph can make, at run time, said as plainly as all others.

TensorFlow reports a failed assertion with the operations around it, twice where two replicas saw
it. What an assertion of ours said is raised as the ValueError it stands for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

_OURS = re.compile(r"assertion failed: \[(`[^\n]*?Received: [^\n]*?\.)\]")


@contextlib.contextmanager
def plain_refusals() -> Iterator[None]:
    """Raises what an assertion of ours says, if one fails inside, as a ValueError."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _OURS.search(str(error))
        if found is None:
            raise
        raise ValueError(found.group(1).replace("\\'", "'")) from error
