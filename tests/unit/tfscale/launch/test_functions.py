"""Functions as jobs: from a real notebook, and from a program."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.programs import ROOT, own_environment
from tfscale.launch import JobFailed, launch_function


def task(value: int) -> tuple[str, int]:
    return os.environ["TF_CONFIG"], value


def failing() -> None:
    raise ZeroDivisionError("of the function")


def test_the_result_is_that_of_worker_0() -> None:
    config, value = launch_function(task, (7,), num_workers=2)
    assert value == 7
    assert '"index": 0' in config


def test_an_error_comes_with_its_traceback() -> None:
    with pytest.raises(JobFailed, match="ZeroDivisionError: of the function") as caught:
        launch_function(failing, num_workers=2)
    assert caught.value.outcome.status == 1
    assert 'in failing\n    raise ZeroDivisionError("of the function")' in str(caught.value)


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="`function` and `arguments` must be picklable"):
        launch_function(task, (threading.Lock(),), num_workers=1)


@pytest.mark.parametrize(
    ("function", "arguments", "problem"),
    [
        (3, (), "`function` must be a function. Received: function=3"),
        (task, 3, "`arguments` must be a tuple or a list. Received: arguments=3"),
        (task, "ab", "`arguments` must be a tuple or a list. Received: arguments='ab'"),
    ],
)
def test_what_is_no_call_is_refused(function: Any, arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        launch_function(function, arguments, num_workers=1)


def test_a_result_that_cannot_be_sent_is_named() -> None:
    problem = "`function` must return what can be pickled. Received: a result of type lock"
    with pytest.raises(JobFailed, match=problem):
        launch_function(threading.Lock, num_workers=1)


CELL = """
import tfscale

def train(epochs):
    import keras, numpy as np, strategies
    strategy = strategies.multi_worker_mirrored_strategy()
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.ones((32, 4), "float32")
    history = model.fit(x, x[:, :1], batch_size=16, epochs=epochs, verbose=0)
    return strategy.num_replicas_in_sync, len(history.history["loss"])

print(tfscale.launch.launch_function(train, (3,), num_workers=2))
"""


def test_a_notebook_trains_on_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own_environment().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=300, resources=resources
    ).execute()
    printed = "".join(
        output.text for output in notebook.cells[0].outputs if output.output_type == "stream"
    )
    assert "[worker 1] " in printed or "[worker 0] " in printed
    assert printed.splitlines()[-1] == "(2, 3)"
