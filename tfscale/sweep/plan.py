"""What a sweep does: its command, its flags, and how trials are run."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from tfscale.sweep.reports import STEP
from tfscale.sweep.space import MOST_POINTS, Axis, refuse_twice

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
DIRECTIONS = ("maximize", "minimize")
_FOLDER = "{folder}"
_RECIPE = re.compile(r"recipes\.[a-z_]+")
_RECIPE_FOLDER = "--model_dir"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_MORE_GRACE = 5.0
"""Seconds that the launcher has, after its workers, to end."""


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        command: Program and arguments. `{NAME}` in an argument becomes the value of the flag NAME,
            and `{folder}` the folder of the trial; flags without a place are added at the end.
        space: The flags that are varied.
        goal: Name of the value that counts.
        direction: "maximize" or "minimize".
        folder: Folder of the sweep.
        trials: How many there are in the end, with those that failed. Positive; of a grid at
            most its points.
        jobs: Trials at once. Positive.
        seed: Of the sampler.
        sampler: One of `SAMPLERS`.
        pruner: One of `PRUNERS`.
        num_workers: Workers of each trial, by `tfscale launch`; None runs the command itself.
        grace_seconds: Between SIGTERM and SIGKILL.
        trial_seconds: Deadline of a trial.

    Raises:
        ValueError: If flags contradict each other.
    """

    command: tuple[str, ...]
    space: tuple[Axis, ...]
    goal: str
    direction: str
    folder: Path
    _: KW_ONLY
    trials: int
    jobs: int = 1
    seed: int = 0
    sampler: str = "tpe"
    pruner: str = "median"
    num_workers: int | None = None
    grace_seconds: float = 10.0
    trial_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        refuse_twice(self.space)
        if self.goal in ("", STEP):
            raise ValueError(
                "`--goal` must be the name of a value that the command reports, which is neither "
                f"empty nor {STEP!r}. Received: --goal={self.goal}. Example: --goal=val_loss."
            )
        if _SCHEME.match(str(self.folder)):  # of which Path has removed a slash
            raise ValueError(
                "`--folder` must be a local folder, or one in a mounted file system. Received: "
                f"--folder={self.folder}. Example: --folder=runs/sweep."
            )
        if not self.command or not self.command[0]:
            raise ValueError(
                "`command` must begin with a program. Received: ''. Example: -- python train.py"
            )
        for axis in self.space:
            if any(word.split("=")[0] == f"--{axis.name}" for word in self.command):
                raise ValueError(
                    f"`--{axis.kind}` must vary a flag that the command does not have. Received: "
                    f"{axis.name}, and --{axis.name} behind `--`. Leave one of them out."
                )
        if self._is_recipe and self._has_folder_flag and not self._places_folder:
            raise ValueError(
                f"`{_RECIPE_FOLDER}` must be left out: each trial has a folder of its own, in "
                f"--folder. Received: {shlex.join(self.command)}. Leave it out, or write "
                f"{_RECIPE_FOLDER}={_FOLDER}."
            )
        if self.sampler == "grid":
            points = grid_points(self.space)
            if self.trials > points:
                raise ValueError(
                    f"`--trials` must be at most {points} with --sampler=grid, which has as many "
                    f"points. Received: --trials={self.trials}. Leave it out to try all."
                )

    def trial_folder(self, number: int) -> Path:
        """Returns the folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def trial_command(self, values: Mapping[str, Any], folder: Path) -> list[str]:
        """Returns the command of a trial, without the launcher.

        Example:
            >>> from tfscale.sweep.space import parsed
            >>> space = (parsed("int", "units=1..9"), parsed("choice", "by=sgd,adam"))
            >>> command = ("python", "t.py", "--o={by}")
            >>> plan = Plan(command, space, "loss", "minimize", Path("runs"), trials=1)
            >>> plan.trial_command({"units": 3, "by": "sgd"}, Path("runs/trial-0000"))
            ['python', 't.py', '--o=sgd', '--units=3']
        """
        words = list(self.command)
        if self._is_recipe and not self._has_folder_flag:
            words.append(f"{_RECIPE_FOLDER}={_FOLDER}")
        for name, value in values.items():
            place, text = f"{{{name}}}", _text(value)
            if any(place in word for word in self.command):
                words = [word.replace(place, text) for word in words]
            else:
                words.append(f"--{name}={text}")
        return [word.replace(_FOLDER, str(folder)) for word in words]

    def process_command(self, values: Mapping[str, Any], folder: Path) -> list[str]:
        """Returns what is started for a trial."""
        command = self.trial_command(values, folder)
        if self.num_workers is None:
            return command
        return [
            *(sys.executable, "-m", "tfscale", "launch", f"--num_workers={self.num_workers}"),
            *(f"--grace_seconds={self.grace_seconds:g}", "--", *command),
        ]

    @property
    def kill_seconds(self) -> float:
        """Seconds between SIGTERM to the process of a trial and SIGKILL."""
        return self.grace_seconds + (0.0 if self.num_workers is None else _MORE_GRACE)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal when a sweep is continued, by flag."""
        return {
            "command": shlex.join(self.command),
            "space": [str(axis) for axis in self.space],
            "goal": self.goal,
            "direction": self.direction,
            "seed": self.seed,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "num_workers": self.num_workers,
        }

    @property
    def _is_recipe(self) -> bool:
        return any(
            first == "-m" and _RECIPE.fullmatch(second)
            for first, second in zip(self.command, self.command[1:], strict=False)
        )

    @property
    def _has_folder_flag(self) -> bool:
        return any(word.split("=")[0] == _RECIPE_FOLDER for word in self.command)

    @property
    def _places_folder(self) -> bool:
        return any(_FOLDER in word for word in self.command)


def grid_points(space: Sequence[Axis]) -> int:
    """Returns how many points a grid has.

    Raises:
        ValueError: If it has none, or no end.
    """
    refuse_twice(space)
    points = math.prod(len(axis.values()) for axis in space)
    if points > MOST_POINTS:
        raise ValueError(
            f"`--sampler=grid` must have at most {MOST_POINTS:,} points. Received: {points:,}. "
            "Vary fewer flags or values, or use --sampler=random."
        )
    return points


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
