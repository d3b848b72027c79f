"""The memory of a worker at another size of the job, from its peaks at the sizes that have run.

With the same global batch, n workers get 1/n of it each. The memory of a worker is what does not
depend on its share, plus what grows in proportion to it: peak(n) = fixed + growing / n.
"""

from __future__ import annotations

from pathlib import Path

from tfscale.files.room import peak_memory
from tfscale.launch.process_tree import PROCESSES, process_tree


class Peaks:
    """The largest peak of a worker at each number of workers.

    Example:
        >>> peaks = Peaks()
        >>> peaks.note(4, 10_000)
        >>> peaks.bound(2), peaks.bound(4)
        (20000, None)
        >>> peaks.note(3, 11_000)
        >>> peaks.bound(2)
        13000
    """

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}

    def note(self, num_workers: int, peak: int) -> None:
        """Adds the peak of one worker.

        Args:
            num_workers: Workers of the job while it ran. Positive.
            peak: Bytes.
        """
        self._peaks[num_workers] = max(peak, self._peaks.get(num_workers, 0))

    def bound(self, num_workers: int) -> int | None:
        """Returns how many bytes a worker may need at a number of workers.

        With one size measured, nothing is taken to be fixed: peak * measured / num_workers. With
        several, it is the line through the two smallest, if that is less. Never less than what was
        measured.

        Args:
            num_workers: Workers of the start in question. Positive.

        Returns:
            None if so few workers, or fewer, have run already, or nothing was measured.
        """
        sizes = sorted(self._peaks)
        if not sizes or sizes[0] <= num_workers:
            return None
        smallest = sizes[0]
        peak = self._peaks[smallest]
        bound = peak * smallest / num_workers
        if len(sizes) > 1:
            other = sizes[1]
            growing = (peak - self._peaks[other]) / (1 / smallest - 1 / other)
            line = peak + growing * (1 / num_workers - 1 / smallest)
            bound = min(bound, max(line, peak))
        return round(bound)


def peak_of_processes(first: int, proc: Path = PROCESSES) -> int | None:
    """Returns the sum of the peaks of a process and of all below it, in bytes.

    Args:
        first: The process id.
        proc: The folder of the system's processes.

    Returns:
        None if the system does not say, or the process has ended.
    """
    peaks = [peak_memory(process, proc) for process in process_tree(first, proc)]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if known else None
