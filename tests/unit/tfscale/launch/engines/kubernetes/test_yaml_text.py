"""The YAML that is written is the data that was given, to another reader of YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfscale.launch.engines.kubernetes.yaml_text import yaml_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    TEXT, st.integers(), st.booleans(), st.sampled_from(["no", "- a", "a: b", "\U0001f600"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("aB-1/ .:", max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)
DOCUMENT = st.dictionaries(st.sampled_from(["kind", "a b", "on", "1"]), VALUES, min_size=1)


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(DOCUMENT, max_size=2))
def test_a_reader_of_yaml_finds_what_was_written(documents: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(yaml_text(*documents))) == documents


@pytest.mark.parametrize(
    "text", ["yes", "Off", "1e3", "0x1f", "12:30", "~", "", "- a", "a: b", "#"]
)
def test_what_yaml_would_read_as_something_else_is_quoted(text: str) -> None:
    assert yaml_text({"value": text}) == f'value: "{text}"\n'


def test_what_a_manifest_never_has_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"no YAML for 1\.5"):
        yaml_text({"cpu": 1.5})
