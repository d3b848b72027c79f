"""Runs the modules marked `own_process` in a separate process, and reports them here.

    pytestmark = pytest.mark.own_process

TensorFlow's logical CPUs are fixed once it has started, and fixes of Keras stay for the life of a
process. So the tests of such a module run together in one child, which is pytest again, forked from
a process that has imported TensorFlow; its reports come back as if they had run here. A module that
never ends, or takes its process down, fails by name with what the child printed last. The process
has imported pytest's plugins and compared the symbols of Keras too, which would take each child a
second and more.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.prefork import Prefork

_REPORTS = "TFSCALE_TEST_REPORTS"
_SECONDS = 600
_SECONDS_OF_A_THOROUGH_TEST = 60
"""Is added for each of them: some modules have 150."""
_PREFORK = pytest.StashKey[Prefork]()
_CHILDREN = pytest.StashKey[dict[Path, dict[str, list[pytest.TestReport]]]]()


class _ReportWriter:
    """In the child: one line of JSON per report, written at once, so that a crash loses none."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_process: the module's tests run in a child process.")
    if path := os.environ.pop(_REPORTS, None):
        config.pluginmanager.register(_ReportWriter(config, Path(path)), "own_process_reports")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _PREFORK in config.stash:
        config.stash[_PREFORK].close()


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    is_child = item.config.pluginmanager.has_plugin("own_process_reports")
    if is_child or item.get_closest_marker("own_process") is None:
        return None
    children = item.config.stash.setdefault(_CHILDREN, {})
    if item.path not in children:
        children[item.path] = _run_child(item)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in children[item.path][item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # The set-up of an earlier test's folder does not apply to the next test.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _run_child(first: pytest.Item) -> dict[str, list[pytest.TestReport]]:
    """Runs all selected tests of the module of `first`; returns their reports by test.

    TensorFlow 2.21 now and then crashes while it drops a dataset's iterator that is reading ahead
    (SIGSEGV in `RootDataset::output_dtypes`). The tests that such a child took with it run once
    more; a second crash fails them.
    """
    items = [item for item in first.session.items if item.path == first.path]
    reports, status, end = _run_once(first.config, items)
    lost = [item for item in items if _is_lost(reports[item.nodeid])]
    if lost and status == -signal.SIGSEGV:
        warnings.warn(
            f"{first.path.name}: {end[:200]}; running {len(lost)} tests again", stacklevel=1
        )
        again, _, end = _run_once(first.config, lost)
        reports.update(again)
    for item in items:
        if _is_lost(reports[item.nodeid]):
            reports[item.nodeid].append(_lost(item, f"The child process {end}"))
    return reports


def _is_lost(reports: list[pytest.TestReport]) -> bool:
    return not any(report.when == "teardown" for report in reports)


def _run_once(
    config: pytest.Config, items: list[pytest.Item]
) -> tuple[dict[str, list[pytest.TestReport]], int, str]:
    thorough = sum(item.get_closest_marker("thorough") is not None for item in items)
    seconds = _SECONDS + thorough * _SECONDS_OF_A_THOROUGH_TEST
    with tempfile.TemporaryDirectory() as folder:
        path, printed = Path(folder) / "reports", Path(folder) / "printed"
        path.touch()
        printed.touch()
        if _PREFORK not in config.stash:
            plugins = {point.module for point in metadata.entry_points(group="pytest11")}
            imported = ("tensorflow", "keras", "tests.compared_symbols", "pytest", *sorted(plugins))
            config.stash[_PREFORK] = Prefork(*imported)
        # `-m ""`: select there what was selected here, including `thorough` tests.
        try:
            status = config.stash[_PREFORK].run(
                "pytest",
                *("-p", "no:cacheprovider", "-m", ""),
                *(item.nodeid for item in items),
                stdout=printed,
                stderr=printed,
                cwd=config.rootpath,
                seconds=seconds,
                **{_REPORTS: str(path)},
            )
            end = f"ended with status {status}"
        except TimeoutError:
            status = -signal.SIGKILL
            end = f"was killed after {seconds} s"
        output = printed.read_text("utf-8", errors="replace")
        lines = path.read_text("utf-8").splitlines()
    reports: dict[str, list[pytest.TestReport]] = {item.nodeid: [] for item in items}
    for line in lines:
        data: dict[str, Any] = json.loads(line)
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        if isinstance(report.longrepr, list):  # JSON has no tuples; a skip's place is one
            report.longrepr = tuple(report.longrepr)
        reports[report.nodeid].append(report)
    return reports, status, f"{end}:\n{output[-4000:]}"


def _lost(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=why,
        when="call",
    )
