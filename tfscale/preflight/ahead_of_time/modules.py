"""The text of an optimized HLO module, read for the arrays that it keeps in the chip's memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfscale.preflight.ahead_of_time.shapes import Array, arrays

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = ")
_OPCODE = re.compile(r" ([a-z][\w-]*)\(")
_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:body|condition|branch_computations)=(\{[^}]*\}|%[\w.-]+)")
# These make no array: they name one, start to move it, or are counted as arguments.
_VIEWS = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|while|conditional|call|after-all|.*-start"
)


@dataclass(frozen=True)
class Made:
    """What one instruction makes.

    Attributes:
        operation: TensorFlow's operation that it comes from, "" where that is not known.
        array: One array that it makes.
    """

    operation: str
    array: Array


def argument_arrays(module: str) -> list[Array]:
    """Returns the arrays a program is given, in order, as the chip lays them out.

    Args:
        module: Text of an optimized HLO module.

    Raises:
        ValueError: If the text has no layout of its arguments.
    """
    head = module.partition("\n")[0]
    found = re.search(r"entry_computation_layout=\{\((.*?)\)->", head)
    if found is None:
        raise ValueError(
            "`module` must begin with the layout of its arguments. Received: "
            f"{head[:100]!r}. Report it, with the program."
        )
    return list(arrays(found[1]))


def arrays_made(module: str) -> Iterator[Made]:
    """Yields the arrays in main memory that a program makes as it runs, each once.

    Inside a fusion there are none: what it computes on the way stays in registers. They do not live
    at the same time: their sum is no memory.

    Args:
        module: Text of an optimized HLO module.
    """
    computations, entry = _computations(module)
    left, seen = [entry], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in computations.get(name, ()):
            for called in _CALLED.findall(line):
                left += re.findall(r"%([\w.-]+)", called)
            start = _INSTRUCTION.match(line)
            opcode = _OPCODE.search(line, start.end() if start else 0)
            if start is None or opcode is None or _VIEWS.fullmatch(opcode[1]):
                continue
            operation = _NAME.search(line)
            for array in arrays(line[start.end() : opcode.start()]):
                if array.is_in_hbm:
                    yield Made(operation[1] if operation else "", array)


def _computations(module: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    entry, name = "", ""
    for line in module.split("\n")[1:]:
        head = _HEAD.match(line)
        if head:
            name = head[2]
            computations[name] = []
            if head[1]:
                entry = name
        elif name:
            computations[name].append(line)
    return computations, entry
