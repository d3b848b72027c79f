"""What a worker says of itself, and what is seen of it from elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from strategies.liveness.activity import described
from strategies.progress import Place

SILENT_SECONDS = 5.0
"""A worker that says nothing for so long does not answer; it speaks once a second."""


@dataclass(frozen=True)
class Heartbeat:
    """A worker's word about itself.

    Attributes:
        number: From 1; how a reader knows a new word.
        place: Where its training is.
        still: Seconds since it last moved.
        stack: What its threads are doing, if it has not moved for a while; or empty.
        end: "" while its `fit` goes on; else how it ended, such as "has ended its fit".
        doing: What it does, to follow its name: "is in Slow.on_epoch_end, at train.py:40".
        question: Of the meeting of workers that it is at, such as "evaluate()"; or empty.
    """

    number: int
    place: Place
    still: float
    stack: str = ""
    end: str = ""
    doing: str = ""
    question: str = ""

    def as_words(self) -> str:
        """Returns JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_words(words: str) -> Heartbeat:
        """Reads what `as_words` wrote."""
        found = json.loads(words)
        return Heartbeat(**{**found, "place": Place(**found["place"])})


@dataclass(frozen=True)
class Seen:
    """A worker as another one sees it.

    Attributes:
        name: Such as "worker 1".
        heartbeat: Its last word, or None if it has said nothing yet.
        age: Seconds since that word came; by the clock of the one who sees.
    """

    name: str
    heartbeat: Heartbeat | None
    age: float

    @property
    def is_silent(self) -> bool:
        """Whether it should have spoken since."""
        return not self.is_over and self.age >= SILENT_SECONDS

    @property
    def still(self) -> float:
        """Seconds since it last moved, as far as anyone knows."""
        return self.age + (self.heartbeat.still if self.heartbeat else 0.0)

    @property
    def is_over(self) -> bool:
        """Whether its `fit` has ended."""
        return self.heartbeat is not None and self.heartbeat.end != ""

    @property
    def is_waiting(self) -> bool:
        """Whether it is at a meeting with the other workers."""
        heartbeat = self.heartbeat
        return heartbeat is not None and (
            heartbeat.place.phase == "collective" or heartbeat.question != ""
        )

    def sentence(self) -> str:
        """Says in one line what is the matter with it."""
        if self.heartbeat is None or self.is_silent:
            return self.silence()
        where = described(self.heartbeat.place)
        if self.is_over:
            return f"{self.name} {self.heartbeat.end}: {where}."
        return f"{self.name} has not moved for {self.still:.0f} s: {where}."

    def silence(self) -> str:
        """Says that it does not answer, and where it was last."""
        last = f", last at {described(self.heartbeat.place)}" if self.heartbeat else ""
        return f"{self.name} does not answer: no word for {self.age:.0f} s{last}."
