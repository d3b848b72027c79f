from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor_faults import metadata_folder
from tfscale.doctor.wheels import examine_wheels

CUDA = 'nvidia-nccl-cu12<3.0,>=2.27.7; extra == "and-cuda"'


@pytest.mark.parametrize(
    ("wheels", "found"),
    [
        pytest.param([("keras", "3.15.1")], [], id="one"),
        pytest.param(
            [("keras", "3.15.1"), ("keras-nightly", "3.16.0.dev1")],
            ["keras and keras-nightly install into the same folder"],
            id="one folder",
        ),
        pytest.param(
            [("Keras", "3.14.0"), ("keras", "3.15.1")],
            ["keras is installed in 2 versions in "],
            id="twice",
        ),
        pytest.param(
            [("tensorflow", "2.21.0", "protobuf>=6.31.1", "gast!=0.5.0"), ("gast", "0.6.0")],
            ["tensorflow 2.21.0 needs protobuf>=6.31.1, and no version is installed."],
            id="missing",
        ),
        pytest.param(
            [("tensorflow", "2.21.0", "ml_dtypes>=0.5.1"), ("ml-dtypes", "0.4.0")],
            ["tensorflow 2.21.0 needs ml_dtypes>=0.5.1, and 0.4.0 is installed."],
            id="spelt in two ways",
        ),
        pytest.param([("tensorflow", "2.21.0", CUDA)], [], id="no CUDA"),
        pytest.param(
            [("tensorflow", "2.21.0", CUDA), ("nvidia-nccl-cu12", "2.28.1")], [], id="new NCCL"
        ),
        pytest.param(
            [("tensorflow", "2.21.0", CUDA), ("nvidia-nccl-cu12", "2.27.6")],
            ["tensorflow 2.21.0 needs nvidia-nccl-cu12<3.0,>=2.27.7, and 2.27.6 is installed."],
            id="old NCCL",
        ),
        pytest.param(
            [("tensorflow-cpu", "2.21.0", "keras>=3.12.0"), ("keras-nightly", "3.16.0.dev2026")],
            [],
            id="a nightly stands in",
        ),
        pytest.param(
            [("tensorflow", "2.21.0", "winlib>=1; sys_platform == 'win32'")], [], id="elsewhere"
        ),
        pytest.param([("tensorflow", "2.21.0", "???")], [], id="unreadable"),
    ],
)
def test_wheels_that_do_not_go_together_are_named(
    wheels: list[tuple[str, ...]], found: list[str], tmp_path: Path
) -> None:
    for wheel in wheels:
        metadata_folder(tmp_path, *wheel)
    findings = examine_wheels([str(tmp_path)])
    assert [each.found[: len(start)] for each, start in zip(findings, found, strict=True)] == found
    assert all(each.is_problem and each.cure for each in findings)


def test_of_two_folders_the_first_counts(tmp_path: Path) -> None:
    first = metadata_folder(tmp_path / "first", "tensorflow", "2.21.0", "six>=1.12")
    metadata_folder(tmp_path / "first", "six", "1.16")
    second = metadata_folder(tmp_path / "second", "six", "1.0")
    metadata_folder(tmp_path / "second", "tensorflow", "2.0", "nosuch")
    assert examine_wheels([str(first), str(second)]) == []
    (finding,) = examine_wheels([str(second), str(first)])
    assert finding.found == "tensorflow 2.0 needs nosuch, and no version is installed."


def test_what_an_interrupted_installation_leaves_does_not_stop_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "keras-3.0.dist-info").mkdir()
    (tmp_path / "x-1.dist-info").mkdir()
    (tmp_path / "x-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    assert examine_wheels([str(tmp_path)]) == []
