from __future__ import annotations

import doctest
import math
import re
from xml.etree import ElementTree

import pytest

import recipes.distance_plot
from recipes.distance_plot import distance_plot

SVG = "{http://www.w3.org/2000/svg}"


def places(text: str) -> list[list[tuple[str, float, float]]]:
    """The commands of each path: move or line, x, y."""
    found = []
    for path in ElementTree.fromstring(text).iter(f"{SVG}path"):
        commands = re.findall(r"([ML])([\d.]+) ([\d.]+)", path.attrib["d"])
        found.append([(command, float(x), float(y)) for command, x, y in commands])
    return found


def test_a_tenth_is_one_tick_down_and_an_epoch_one_step_to_the_right() -> None:
    text = distance_plot({"a & b": [1.0, 0.1, 0.01], "c": [1.0, 1.0, 0.001]}, title="<1>")
    (one, other), root = places(text), ElementTree.fromstring(text)
    assert [command for command, _, _ in one] == ["M", "L", "L"]
    xs, ys = [x for _, x, _ in one], [y for _, _, y in one]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.11)
    assert ys[2] > ys[1]
    labels = {part.text: part for part in root.iter(f"{SVG}text")}
    # The labels of ticks stand 4 below their lines.
    assert float(labels["1e-1"].attrib["y"]) - 4 == pytest.approx(ys[1], abs=0.11)
    assert float(labels["1e-3"].attrib["y"]) - 4 == pytest.approx(other[2][2], abs=0.11)
    assert float(labels["2"].attrib["x"]) == pytest.approx(xs[2], abs=0.11)
    assert {"a & b", "c", "<1>", "epochs"} <= set(labels)


def test_what_has_no_logarithm_leaves_a_gap() -> None:
    values = [1.0, 0.0, 0.5, math.nan, math.inf, 0.1, 0.2]
    (path,) = places(distance_plot({"a": values}, title=""))
    assert [command for command, _, _ in path] == ["M", "M", "M", "L"]


def test_everything_lies_within_the_page() -> None:
    curves = {f"curve {i}": [10.0**-e for e in range(0, 300, 7)] for i in range(6)}
    text = distance_plot(curves, title="many")
    for path in places(text):
        assert all(0 <= x <= 720 and 0 <= y <= 440 for _, x, y in path)
    ticks = [part.text for part in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert len([tick for tick in ticks if tick and tick.startswith("1e")]) <= 10


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": [0.0]}, {str(i): [1.0] for i in range(7)}])
def test_nothing_to_draw_and_too_much_are_refused(curves: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="`curves` must be one to 6 curves"):
        distance_plot(curves, title="")


def test_the_example_runs() -> None:
    assert doctest.testmod(recipes.distance_plot).failed == 0
