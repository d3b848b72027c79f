"""Writes plain data as YAML, for people to read.

kubectl takes JSON too, but people read and keep manifests as YAML. JSON's scalars are YAML, so a
text that could be read as something else is quoted as JSON does it, and the blocks around it are
lines with two spaces. That is little enough to need no YAML library, so `--dry_run` works wherever
tfscale does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Begins with a letter, so it is no number, date or sign of YAML; no ": " or " #" can be in it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*|/[A-Za-z0-9_./@-]*")
# What YAML 1.1 reads as a truth value or as null.
_NOT_TEXT = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null"})


def yaml_text(*documents: Mapping[str, Any]) -> str:
    r"""Returns documents as YAML.

    Args:
        *documents: Mappings of text to text, integers, truth values, and lists and mappings of
            these. Other values are a `TypeError`.

    Example:
        >>> print(yaml_text({"kind": "Service", "spec": {"clusterIP": "None", "ports": [2222]}}))
        kind: Service
        spec:
          clusterIP: None
          ports:
          - 2222
        <BLANKLINE>
    """
    return "---\n".join("".join(f"{line}\n" for line in _mapping(each)) for each in documents)


def _mapping(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield f"{_scalar(key)}:"
            yield from (f"  {line}" for line in _mapping(inner))
        elif _is_list(inner) and inner:
            yield f"{_scalar(key)}:"
            yield from _sequence(inner)
        else:
            yield f"{_scalar(key)}: {_scalar(inner)}"


def _sequence(value: Sequence[Any]) -> Iterator[str]:
    for inner in value:
        if isinstance(inner, Mapping) and inner:
            lines = _mapping(inner)
        elif _is_list(inner) and inner:
            lines = _sequence(inner)
        else:
            lines = iter([_scalar(inner)])
        yield f"- {next(lines)}"
        yield from (f"  {line}" for line in lines)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT
        return value if is_plain else f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, bool | int) or value in ({}, []):
        return json.dumps(value)
    raise TypeError(f"no YAML for {value!r}")


def _escaped(character: str) -> str:
    """Returns a character of a quoted text, in ASCII: what else YAML accepts is a long list.

    JSON writes a character above U+FFFF as a pair of surrogates, which YAML does not combine.
    """
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else json.dumps(character)[1:-1]
