"""Job files: the flags of `tfscale launch` in TOML, for `--config=job.toml`.

engine = "slurm"
num_workers = 4
memory = "32GiB"
command = ["python", "train.py"]

[environment]
DATA_DIR = "/shared/digits"

[slurm]
partition = "gpu"
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfscale.launch.engines.registry import ENGINES

_ENVIRONMENT = "environment"
_COMMAND = "command"
_REPEATED = ("env", "option")


def with_job_file(arguments: list[str], defaults: Callable[[], Mapping[str, Any]]) -> list[str]:
    """Puts what a job file says before the arguments, so that these have precedence.

    Args:
        arguments: Those of `tfscale launch`, before `--`.
        defaults: Returns all flags with their defaults; False for those without a value.

    Returns:
        The arguments with the flags of the file that `--config` names; at the end `--` and the
        command of the file, if it has one.

    Raises:
        ValueError: If the file cannot be read, or something in it is not what a job file has.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--engine")
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # a flag without its value: the real parser says it better
        return arguments
    if not found.config:
        return arguments
    if len(found.config) > 1:
        raise ValueError(
            f"`--config` must be given once. Received: {', '.join(found.config)}. Put the settings "
            "of both files into one."
        )
    (path,) = found.config
    values = _read(path)
    known = defaults()
    engine = found.engine or values.get("engine", "local")
    flags, command = [], values.pop(_COMMAND, None)
    for key, value in values.items():
        if not isinstance(value, dict):
            _check_key(path, key, value, known)
            flags += _flag(path, key, value)
        elif key == _ENVIRONMENT:
            flags += [f"--env={name}={_text(path, name, v)}" for name, v in value.items()]
        elif key == engine:
            flags += [f"--option={name}={_text(path, name, v)}" for name, v in value.items()]
        elif key not in ENGINES:
            raise ValueError(
                f"`--config` must name a file whose tables are [{_ENVIRONMENT}] or engines "
                f"({', '.join(ENGINES)}). Received: [{key}] in {path}. Correct the name."
            )
    return [*flags, *arguments, *_command(path, command)]


def _read(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"`--config` must name a job file in TOML. Received: {path!r} ({reason}). "
            "`tfscale launch --help` describes it. Example of a line: num_workers = 4"
        ) from error


def _check_key(path: str, key: str, value: Any, known: Mapping[str, Any]) -> None:
    """Refuses a key that is no flag, or has a value of another kind."""
    if key in (_ENVIRONMENT, *ENGINES):
        raise ValueError(
            f"`{key}` must be a table in a job file. Received: {key} = {value!r} in {path}. Write "
            f"a line [{key}], and below it lines such as NAME = 'value'."
        )
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        cure = f"The nearest one is {near[0]}." if near else "`tfscale launch --help` lists them."
        raise ValueError(
            f"`{key}` must be a flag of tfscale launch. Received: {key} = {value!r} in {path}. "
            f"{cure}"
        )
    is_switch = known[key] is False
    if is_switch != isinstance(value, bool):
        kind = "true or false" if is_switch else "a value"
        raise ValueError(
            f"`{key}` must be {kind}. Received: {key} = {value!r} in {path}. `tfscale launch "
            "--help` describes it."
        )


def _flag(path: str, key: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{key}"]
    if value is False:
        return []
    if key == "config":
        raise ValueError(
            f"`config` must be left out of a job file. Received: config = {value!r} in {path}. Put "
            "the settings of both files into one."
        )
    if isinstance(value, list) and key in _REPEATED:
        return [f"--{key}={_text(path, key, each)}" for each in value]
    if isinstance(value, list):
        return [f"--{key}={','.join(_text(path, key, each) for each in value)}"]
    return [f"--{key}={_text(path, key, value)}"]


def _text(path: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(
        f"`{key}` must be a text, a number, true or false. Received: {value!r} in {path}."
    )


def _command(path: str, command: Any) -> list[str]:
    if command is None:
        return []
    is_list = isinstance(command, list) and all(isinstance(word, str) for word in command)
    if not is_list or not command:
        raise ValueError(
            "`command` must be a list of texts that begins with the program. Received: "
            f'{command!r} in {path}. Example: command = ["python", "train.py"]'
        )
    return ["--", *command]
