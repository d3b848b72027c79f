"""By how much the clocks of workers differ, from rendezvous that all of them pass.

No worker leaves a rendezvous before all have entered it. So the difference of two clocks is at most
what one reads when it leaves, less what the other read when it entered. Several rendezvous give an
interval that contains it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from strategies.extension import exchange
from tfscale.profile.chrome_trace import Offset

_ROUNDS = 8

Passage = tuple[int, int]
"""When a worker entered and left a rendezvous, in nanoseconds on its own clock."""


def clock_offsets(strategy: Any) -> list[Offset]:
    """Measures them. All workers call it, and get the same result.

    Args:
        strategy: A strategy of several workers.
    """
    own = []
    for _ in range(_ROUNDS):
        entered = time.time_ns()
        exchange(strategy, "clock of a profile")
        own.append((entered, time.time_ns()))
    answers = exchange(strategy, "clocks of a profile", json.dumps(own))
    return offsets_from([json.loads(answer) for answer in answers])


def offsets_from(passages: Sequence[Sequence[Passage]]) -> list[Offset]:
    """Returns the offset of each worker's clock from the first one's.

    A clock that may be equal is taken to be: clocks of one host are.

    Args:
        passages: By worker, one for each rendezvous.

    Example:
        >>> offsets_from([[(0, 10), (20, 24)], [(1005, 1012), (1021, 1023)]])
        [Offset(nanoseconds=0, uncertainty=0), Offset(nanoseconds=1000, uncertainty=3)]
    """
    first = passages[0]
    found = [Offset(0, 0)]
    for other in passages[1:]:
        pairs = list(zip(first, other, strict=True))
        most = min(left - entered for (entered, _), (_, left) in pairs)
        least = max(entered - left for (_, left), (entered, _) in pairs)
        middle = (least + most) // 2
        nanoseconds = 0 if least <= 0 <= most else middle
        found.append(Offset(nanoseconds, max(most - nanoseconds, nanoseconds - least)))
    return found
