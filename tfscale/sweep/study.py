"""The study of optuna in the folder of a sweep: made, or continued.

A sampler draws trial n with a seed of its own, from the seed of the sweep and n. So a sweep that
was ended and continued tries the same values as one that was not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tfscale.sweep.plan import Plan

STORAGE_FILE = "optuna.log"
"""Optuna's journal of the study; `optuna-dashboard FOLDER/optuna.log` shows it."""
_STUDY = "sweep"
_IDENTITY = "tfscale"


def optuna() -> Any:
    """Imports optuna, silent about its own trials.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import optuna as library
    except ImportError as error:
        raise ImportError(
            "`tfscale sweep` needs the package optuna, which chooses the values. Install it: "
            'pip install "tfscale[sweep]".'
        ) from error
    library.logging.set_verbosity(library.logging.ERROR)
    return library


class SweepStudy:
    """The study of a sweep, of which one process at a time has a folder.

    Use it as a context.

    Args:
        plan: The sweep. Its folder is made.

    Attributes:
        study: The `optuna.Study`.

    Raises:
        ValueError: If another sweep is in the folder, or is running in it.
        ImportError: If optuna is not installed.
        OSError: If the folder cannot be written.
    """

    def __init__(self, plan: Plan) -> None:
        self._optuna = optuna()
        self._plan = plan
        self._held = contextlib.ExitStack()
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(_only_one(plan.folder))
        except OSError as error:
            raise OSError(
                "`--folder` must be a folder that can be written. Received: "
                f"--folder={plan.folder} ({error.strerror}). Choose another one."
            ) from error
        try:
            self._journal = self._optuna.storages.journal.JournalFileBackend(
                str(_whole_journal(plan.folder))
            )
            self.study = self._whole_study()
            self._refuse_another()
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> SweepStudy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.close()

    def next_trial(self, running: set[int]) -> Any:
        """Returns a trial to run: one that was interrupted, or a new one with its values drawn.

        Args:
            running: Numbers of the trials that run now.

        Returns:
            An `optuna.Trial`, or None if there are as many trials as there should be.
        """
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            # A process that was killed has left it between being drawn and its end.
            if not trial.state.is_finished() and trial.number not in running:
                return self._continued(trial.number)
        if len(trials) >= self._plan.trials:
            return None
        self.study.sampler = self._sampler(len(trials))
        return self._drawn(self.study.ask())

    def tell(self, trial: Any, value: float | None, state: str, **notes: Any) -> None:
        """Records the end of a trial.

        Args:
            trial: The `optuna.Trial`.
            value: Its value; None if it has none.
            state: "complete", "pruned" or "failed".
            **notes: What else is kept of it.
        """
        for name, note in notes.items():
            trial.set_user_attr(name, note)
        states = self._optuna.trial.TrialState
        # The last trial of a grid asks `optimize` to stop, which does not run here.
        self.study.sampler = self._optuna.samplers.RandomSampler(seed=0)
        by_name = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
        self.study.tell(trial, value if state == "complete" else None, state=by_name[state])

    def _continued(self, number: int) -> Any:
        study_id = self._storage.get_study_id_from_name(_STUDY)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self.study.sampler = self._sampler(number)
        # Without effect, unless the process was killed before it.
        self.study.sampler.before_trial(self.study, self.study.get_trials()[number])
        return self._drawn(self._optuna.trial.Trial(self.study, trial_id))

    def _drawn(self, trial: Any) -> Any:
        """Draws what the trial does not have yet; the process may have been killed in between."""
        for axis in self._plan.space:
            distribution = axis.distribution()
            if axis.kind == "choice":
                trial.suggest_categorical(axis.name, distribution.choices)
            elif axis.kind in ("int", "log_int"):
                low, high = distribution.low, distribution.high
                is_log = distribution.log
                trial.suggest_int(axis.name, low, high, step=distribution.step, log=is_log)
            else:
                low, high = distribution.low, distribution.high
                trial.suggest_float(axis.name, low, high, log=distribution.log)
        return trial

    def _sampler(self, number: int) -> Any:
        """Returns the sampler of a trial."""
        import numpy as np

        samplers, plan = self._optuna.samplers, self._plan
        if plan.sampler == "grid":
            grid = {axis.name: axis.values() for axis in plan.space}
            return samplers.GridSampler(grid, seed=plan.seed)
        seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
        if plan.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, constant_liar=plan.jobs > 1)

    def _whole_study(self) -> Any:
        """Makes the study, or reads it."""
        try:
            self._storage = self._optuna.storages.JournalStorage(self._journal)
            return self._optuna.create_study(
                storage=self._storage,
                study_name=_STUDY,
                direction=self._plan.direction,
                pruner=self._pruner(),
                load_if_exists=True,
            )
        # Optuna trusts its lines.
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                "`--folder` must have a journal of optuna that can be read, or none. Received: "
                f"{self._plan.folder / STORAGE_FILE} ({type(error).__name__}: {error}). Choose "
                "another folder."
            ) from error

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        by_name = {
            "median": pruners.MedianPruner,
            "hyperband": pruners.HyperbandPruner,
            "none": pruners.NopPruner,
        }
        return by_name[self._plan.pruner]()

    def _refuse_another(self) -> None:
        identity = self._plan.identity
        known = self.study.user_attrs.get(_IDENTITY)
        if known is None:
            if self._plan.trial_folder(0).exists():  # its reports would count for the new trial
                raise ValueError(
                    "`--folder` must have the journal of its trials. Received: --folder="
                    f"{self._plan.folder} with {self._plan.trial_folder(0).name}, but "
                    f"{STORAGE_FILE} has no study. Put the journal back, or choose another folder."
                )
            self.study.set_user_attr(_IDENTITY, identity)
            return
        for flag, value in identity.items():
            if value != known.get(flag):
                name = "the flags to vary" if flag == "space" else f"`--{flag}`"
                name = "the command" if flag == "command" else name
                raise ValueError(
                    f"{name} must be as in the sweep in {self._plan.folder}, to continue it. "
                    f"Received: {_shown(value)}, but it has {_shown(known.get(flag))}. Pass "
                    "the same, or another --folder."
                )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return json.dumps(value) if value is None else str(value)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Holds a folder. The kernel lets it go when this process ends, however it ends."""
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                "`--folder` must have no sweep that is running. Received: "
                f"--folder={folder}. Wait for its end, or choose another folder."
            ) from error
        yield


def _whole_journal(folder: Path) -> Path:
    """Returns the file of the journal, without what a killed process has left: a part of a line."""
    path = folder / STORAGE_FILE
    # The lock of optuna, which is held for moments; this process has the folder for itself.
    path.with_name(f"{STORAGE_FILE}.lock").unlink(missing_ok=True)
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    return path
