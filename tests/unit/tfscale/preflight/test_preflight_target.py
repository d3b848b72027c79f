"""Targets: names as users and Google Cloud write them, and replicas counted by hand."""

from __future__ import annotations

import pytest

from tfscale.preflight.target import parse_target


@pytest.mark.parametrize(
    ("text", "shown", "num_replicas"),
    [
        pytest.param("cpu", "cpu", 1, id="this host"),
        pytest.param("v5e", "v5e:1x1", 1, id="one chip is the smallest"),
        pytest.param("v4", "v4:2x2x1", 4, id="four chips are the smallest"),
        pytest.param("v5e:2x4", "v5e:2x4", 8, id="two by four"),
        pytest.param("v5p:2x2x2", "v5p:2x2x2", 8, id="three sides"),
        pytest.param("tpu7x", "tpu7x:2x2x1", 8, id="two cores a chip"),
        pytest.param("v5litepod-4", "v5e:2x2", 4, id="Google Cloud's name of four"),
        pytest.param("v5litepod-8", "v5e:2x4", 8, id="Google Cloud's name of eight"),
        pytest.param("v4:4x4x8", "v4:4x4x8", 128, id="two cubes"),
        pytest.param("v5p:16x16x24", "v5p:16x16x24", 6144, id="the largest of v5p"),
        pytest.param("v6e-256", "v6e:16x16", 256, id="Google Cloud's name of many"),
    ],
)
def test_a_target_has_the_replicas_of_its_chips(text: str, shown: str, num_replicas: int) -> None:
    target = parse_target(text)
    assert (str(target), target.num_replicas) == (shown, num_replicas)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v3", "must be one of cpu, v4, v5e, v5p, v6e, tpu7x. Received: 'v3'. Examples"),
        ("cpu:2", "must be one of cpu"),
        ("v5e:2x2x1", "must have a topology that is on offer for v5e: 1x1, 2x2, .*16x16. Received"),
        ("v5e:3x9", "on offer for v5e.*Received: 'v5e:3x9'"),
        ("v5e:4x2", "on offer for v5e"),
        ("v4:2x2", "on offer for v4: 2x2x1, .* 4x4x8, up to 4096 chips. Received: 'v4:2x2'"),
        ("v4:2x4x8", "on offer for v4"),
        ("v4:8x4x4", "on offer for v4"),
        ("v4:16x16x24", "up to 4096 chips"),
        ("tpu7x:0x4x4", "on offer for tpu7x"),
        ("v5e:0x2", "on offer for v5e"),
        ("v5e:", "on offer for v5e"),
        ("v5litepod-0", "on offer for v5e"),
        ("v5litepod-12", "on offer for v5e.*Received: 'v5litepod-12'"),
    ],
)
def test_a_target_that_cannot_be_is_refused_with_examples(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_target(text)
