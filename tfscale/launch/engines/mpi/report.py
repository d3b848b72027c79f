"""How the worker of an MPI job ended: a line in the output that mpiexec passes to the launcher.

mpiexec has one status for all processes: that of MPICH is the bitwise or of theirs. So each worker
says how it ended, in a line that the launcher takes out of the output.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field

from strategies.extension import ExitReason
from tfscale.launch.engines.end_report import EndReport

_BEGIN = "tfscale-worker-begin"
_END = "tfscale-worker-end"


def begin_line(rank: int, start: str) -> str:
    """Returns the line of a worker that is about to start.

    Args:
        rank: Its rank.
        start: Name of this start of the job, without spaces.
    """
    return f"{_BEGIN} {start} {rank}\n"


def end_line(report: EndReport, start: str) -> str:
    """Returns the line of a worker that has ended.

    Args:
        report: How it ended.
        start: Name of this start of the job, without spaces.
    """
    return f"{_END} {start} {json.dumps(dataclasses.asdict(report))}\n"


@dataclass
class Reports:
    """The reports of one start of a job.

    Attributes:
        start: Its name in them.
        begun: Ranks of the workers that have been started.
        ends: How workers ended, by rank.
    """

    start: str
    begun: set[int] = field(default_factory=set)
    ends: dict[int, EndReport] = field(default_factory=dict)

    def take(self, lines: bytes) -> tuple[bytes, list[EndReport]]:
        """Takes the reports out of whole lines.

        Returns:
            The other lines, and the new ends.
        """
        if b"tfscale-worker-" not in lines:
            return lines, []
        # A process of another worker may have left the line before a report unfinished.
        start = re.escape(self.start)
        begin = re.compile(rf"{_BEGIN} {start} ([0-9]+)\n".encode())
        end = re.compile(rf"{_END} {start} (\{{.*\}})\n".encode())
        self.begun |= {int(match[1]) for match in begin.finditer(lines)}
        ends = [report for match in end.finditer(lines) if (report := _parsed(match[1]))]
        self.ends |= {report.rank: report for report in ends}
        return end.sub(b"", begin.sub(b"", lines)), ends


def _parsed(text: bytes) -> EndReport | None:
    try:
        values = json.loads(text)
        reason = values.pop("reason")
        return EndReport(**values, reason=ExitReason(**reason) if reason else None)
    except (ValueError, TypeError, KeyError):
        return None  # two lines in one
