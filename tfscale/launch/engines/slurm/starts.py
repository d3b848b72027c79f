"""The starts of a job, in a file of its folder: they outlive requeues, and Slurm's own memory.

    starts = Starts(folder, "")
    restart = starts.begin("n[1-2]")        # 0, 1, 2, ...
    starts.end(StartEnd("failed", "worker 1 failed first: exit status 3", status=3))
    starts.finish("failed")

slurmctld forgets a job soon after its end (MinJobAge, 300 s by default), and there may be no
accounting. So what the batch job knew is read here afterwards.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tfscale.files.output_files import write_whole
from tfscale.launch.outcome import WorkerFailure

SUCCEEDED = "succeeded"
PREEMPTED = "preempted"
FAILED = "failed"
HOST_LOST = "host lost"
STOPPED = "stopped"


@dataclass(frozen=True)
class StartEnd:
    """How a start ended.

    Attributes:
        kind: One of the words above.
        said: One sentence, without its end mark.
        status: The exit status of the job if this start is its last.
        failure: The failure of the worker at fault, if known.
    """

    kind: str
    said: str
    status: int
    failure: WorkerFailure | None = None


@dataclass(frozen=True)
class Start:
    """A start of the workers. `end` is None while they run, and if Slurm ended the job."""

    hosts: str
    end: StartEnd | None = None


@dataclass(frozen=True)
class _Record:
    starts: tuple[Start, ...] = ()
    # Of the last start of the job: no other will follow.
    is_over: bool = False


@dataclass
class Starts:
    """The record of one job, or of one task of a job array.

    Attributes:
        folder: The job's folder.
        member: Which member of a job array, such as "array-3"; empty without one.
    """

    folder: Path
    member: str = ""
    _record: _Record = field(init=False)

    def __post_init__(self) -> None:
        self._record = _read(self._path)

    @property
    def all(self) -> tuple[Start, ...]:
        """All starts so far, the newest last."""
        return self._record.starts

    @property
    def over(self) -> StartEnd | None:
        """How the job ended, or None if it has not, as far as is known here."""
        return self.all[-1].end if self._record.is_over and self.all else None

    @property
    def failures(self) -> list[WorkerFailure]:
        """The failures and preemptions so far. A lost host is neither."""
        ends = [start.end for start in self.all if start.end is not None]
        return [end.failure for end in ends if end.failure is not None]

    def begin(self, hosts: str) -> int:
        """Records a start on hosts, and returns the number of starts before it."""
        number = len(self.all)
        self._write(_Record((*self.all, Start(hosts))))
        return number

    def end(self, end: StartEnd) -> None:
        """Records how the newest start ended."""
        *before, last = self.all
        self._write(_Record((*before, replace(last, end=end))))

    def finish(self) -> None:
        """Records that no other start will follow."""
        self._write(replace(self._record, is_over=True))

    @property
    def _path(self) -> Path:
        return self.folder / (f"starts-{self.member}.json" if self.member else "starts.json")

    def _write(self, record: _Record) -> None:
        self._record = record
        write_whole(self._path, json.dumps(asdict(record), indent=1) + "\n")


def _read(path: Path) -> _Record:
    """Returns the record in a file.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        starts = tuple(Start(each["hosts"], _end(each["end"])) for each in values["starts"])
        return _Record(starts, bool(values["is_over"]))
    except FileNotFoundError:
        return _Record()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a record of starts ({type(error).__name__}: {error}). Remove it if the "
            "job is over."
        ) from error


def _end(values: dict[str, object] | None) -> StartEnd | None:
    if values is None:
        return None
    failure = values.pop("failure")
    return StartEnd(**values, failure=failure and WorkerFailure(**failure))  # type: ignore[arg-type]
