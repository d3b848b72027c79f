from __future__ import annotations

import math

import pytest

import strategies
import tfscale


def test_in_one_process_a_value_is_its_own_json_form() -> None:
    strategy = strategies.one_device_strategy()
    value = {"rates": (0.1, math.inf), "name": "sgd", "none": None}
    expected = {"rates": [0.1, math.inf], "name": "sgd", "none": None}
    assert tfscale.broadcast_value(strategy, value) == expected


def test_a_value_that_json_cannot_write_is_an_error() -> None:
    strategy = strategies.one_device_strategy()
    with pytest.raises(
        ValueError, match=r"`value` must be what JSON can write\. Received: value=1j"
    ):
        tfscale.broadcast_value(strategy, 1j)
