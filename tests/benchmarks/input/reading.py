"""What every program of the input benchmark does: it takes batches of an endless stream in turns.

This module needs the standard library and NumPy only, because the peers use it too.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.input.images import SIZE, ImageSet
from tfscale.bench.turns import Turns

CHECKED = 64
"""Images whose decoded pixels are compared."""
# At least this many batches are taken before a turn, and those of an epoch: AUTOTUNE's buffers were
# seen to hold that many.
_BUFFERED = 16
# In this time the variant of the turn before has filled its buffers.
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Reading:
    """What every variant reads, and how long.

    Attributes:
        root: Folder of the images.
        num_images: Their number.
        batch_size: Images of a batch.
        steps: Batches of a turn.
        rounds: Turns of each variant; the first is not counted. At least 2.
        threads: Threads of a variant, or its worker processes.
        timeout_seconds: Deadline of start-up and of each turn. Positive.
        patience_seconds: How long a child waits for its turn. Positive.
    """

    root: str
    num_images: int
    batch_size: int
    steps: int
    rounds: int
    threads: int
    timeout_seconds: float
    patience_seconds: float

    def threads_of(self, processes: int) -> int:
        """Returns the threads of a variant: all have one process that takes turns."""
        return self.threads

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Reading:
        """Returns the reading that `to_json` wrote."""
        return Reading(**json.loads(text))

    @property
    def images(self) -> ImageSet:
        """The files."""
        return ImageSet(Path(self.root), self.num_images)


@dataclass(frozen=True)
class Input:
    """A variant's input.

    Attributes:
        batches: Endless batches `(images, labels)`: uint8 [batch, SIZE, SIZE, 3] and int64 [batch];
            or, if nothing is decoded, anything of `batch` rows.
        decode: Decodes the bytes of an image, or None if nothing is decoded.
    """

    batches: Iterator[Any]
    decode: Callable[[bytes], Any] | None


Inputs = Mapping[str, Callable[[Reading], Input]]


def read_in_turns(inputs: Inputs, own: list[str]) -> int:
    """Takes the turns of a variant. Returns the exit status.

    Args:
        inputs: By variant, what makes its input.
        own: The command line without the program's name: ADDRESS VARIANT NUM_WORKERS THREADS
            READING, as `contestant` passes it.
    """
    address, variant, _, _, text = own
    reading = Reading.from_json(text)
    with Turns(address, reading.patience_seconds, with_children=True) as turns:
        try:
            made = inputs[variant](reading)
            batches = made.batches

            def take(steps: int) -> None:
                for _ in range(steps):
                    next(batches)

            def empty_buffers() -> None:
                # Streams that filled their buffers between the turns would have a head start.
                time.sleep(_SETTLE_SECONDS)
                take(max(_BUFFERED, reading.steps))

            take(reading.steps)
            if made.decode is not None:
                check(next(batches), reading.batch_size)
            turns.ready(float(fingerprint(made.decode, reading)))
            for _ in range(reading.rounds):
                turns.start(empty_buffers)
                take(reading.steps)
                turns.finish()
        except Exception as error:
            turns.fail("failed", f"{type(error).__name__}: {error}".partition("\n")[0])
            raise
    return 0


def fingerprint(decode: Callable[[bytes], Any] | None, reading: Reading) -> int:
    """Returns a checksum of the decoded pixels of some images, 0 if nothing is decoded."""
    if decode is None:
        return 0
    found = 0
    for path in sorted(reading.images.folder.glob("*/*.jpg"))[:CHECKED]:
        found = zlib.crc32(np.ascontiguousarray(decode(path.read_bytes())).tobytes(), found)
    return found


def check(batch: Any, batch_size: int) -> None:
    """Checks that a batch is what all variants make.

    Raises:
        ValueError: If its shapes or types are others.
    """
    images, labels = (np.asarray(part) for part in batch)
    found = (images.shape, images.dtype.name, labels.shape, labels.dtype.name)
    wanted = ((batch_size, SIZE, SIZE, 3), "uint8", (batch_size,), "int64")
    if found != wanted:
        raise ValueError(f"A batch must be {wanted}. Received: {found}.")


def program(inputs: Inputs) -> None:
    """Runs a program of the benchmark and exits."""
    sys.exit(read_in_turns(inputs, sys.argv[1:]))
