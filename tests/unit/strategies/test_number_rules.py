from __future__ import annotations

import math
import random

import pytest

from strategies.arguments import whole_number
from strategies.number_rules import COUNT, SECONDS, SECONDS_OR_ZERO, NumberRule, floats, integers

SEED = integers(0, below=2**31)
PART = floats("in [0, 1)", "0.1", lambda part: 0 <= part < 1)


@pytest.mark.parametrize(
    ("rule", "text", "number"),
    [
        (COUNT, "1", 1),
        (COUNT, "007", 7),
        (COUNT, str(2**63 - 1), 2**63 - 1),
        (SEED, "0", 0),
        (integers(-5), "-5", -5),
        (SECONDS, "60", 60.0),
        (SECONDS, "1e3", 1000.0),
        (SECONDS_OR_ZERO, "0", 0.0),
        (PART, ".5", 0.5),
    ],
)
def test_a_number_in_range_is_read(rule: NumberRule[float], text: str, number: float) -> None:
    assert rule.parse(text) == rule.value(text) == number
    assert type(rule.parse(text)) is type(number)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (COUNT, "a positive integer"),
        (integers(0), "an integer, at least 0"),
        (SEED, r"an integer in \[0, 2\*\*31\)"),
        (SECONDS, "a positive, finite number of seconds"),
        (PART, r"in \[0, 1\)"),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1_0",
        "\u0661",
        "-1",
        "1.5.",
        "nan",
        "inf",
        "1e999",
        "9" * 5000,
        "0x1",
    ],
)
def test_other_text_is_refused_with_the_rule_and_an_example(
    rule: NumberRule[float], words: str, text: str
) -> None:
    with pytest.raises(ValueError, match=f"must be {words}. Received: '.*'. Example: "):
        rule.parse(text)
    assert rule.value(text) is None


def test_every_example_satisfies_its_rule() -> None:
    for rule in (COUNT, SEED, SECONDS, SECONDS_OR_ZERO, PART, integers(2)):
        assert rule.value(rule.example) is not None


def test_a_float_that_python_writes_is_read_exactly() -> None:
    draw = random.Random(0)
    for _ in range(1000):
        number = math.ldexp(draw.random(), draw.randint(-1000, 1000))
        assert floats("finite", "1", lambda number: True).parse(repr(-number)) == -number


def test_arguments_in_python_have_the_same_wording() -> None:
    for rule, at_least, below in ((COUNT, 1, 2**63), (SEED, 0, 2**31)):
        with pytest.raises(ValueError, match="`n` must be ") as raised:
            whole_number("n", -1, at_least=at_least, below=below)
        assert f"`n` must be {rule.words}. Received: n=-1." in str(raised.value)
