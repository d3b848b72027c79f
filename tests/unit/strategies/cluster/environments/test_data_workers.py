"""The data workers that the environment of a process describes."""

from __future__ import annotations

import re

import pytest

from strategies.cluster.environments import DataWorkers, data_workers


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"TFSCALE_DATA_WORKERS": " "}, None, id="a blank variable"),
        pytest.param({"TFSCALE_DATA_WORKER": "0"}, None, id="an index without addresses"),
        pytest.param(
            {"TFSCALE_DATA_WORKERS": "127.0.0.1:2000,node-1:2001, [::1]:2002"},
            DataWorkers(("127.0.0.1:2000", "node-1:2001", "[::1]:2002")),
            id="a worker that trains",
        ),
        pytest.param(
            {"TFSCALE_DATA_WORKERS": "a:1,b:1", "TFSCALE_DATA_WORKER": "1"},
            DataWorkers(("a:1", "b:1"), 1),
            id="a data worker",
        ),
    ],
)
def test_the_variables_say_who_computes_the_input(
    environ: dict[str, str], found: DataWorkers | None
) -> None:
    assert data_workers(environ) == found


@pytest.mark.parametrize(
    ("addresses", "index", "said"),
    [
        ("127.0.0.1", "", "must be host:port,host:port,... Received: '127.0.0.1' in"),
        ("a:1,", "", "Received: '' in TFSCALE_DATA_WORKERS='a:1,'"),
        ("a:0", "", "Received: 'a:0' in"),
        ("a:1", "1", "`TFSCALE_DATA_WORKER` must be less than 1"),
        ("a:1", "first", "`TFSCALE_DATA_WORKER` must be"),
    ],
)
def test_impossible_variables_are_refused_by_name(addresses: str, index: str, said: str) -> None:
    environ = {"TFSCALE_DATA_WORKERS": addresses, "TFSCALE_DATA_WORKER": index}
    with pytest.raises(ValueError, match=re.escape(said)):
        data_workers(environ)
