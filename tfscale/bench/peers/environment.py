"""The environment of the peers: a Python with torch, mpi4py and mpich, beside the one in use.

TensorFlow and PyTorch do not share an environment well: they ask for different versions of CUDA's
libraries. So the peers have their own, `.venv-peers` in the current folder or in that of the
checkout, which `make peers` makes from `requirements.txt`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "TFSCALE_BENCH_PEERS"
"""Environment variable with the path of the peers' Python; "none" for no peers."""
FOLDER = ".venv-peers"
ROOT = Path(__file__).parents[3]
"""The folder from which `tfscale` is imported: a checkout, or site-packages."""

_SECONDS = 60.0
# The folder of `tfscale` comes last, so that a peer's NumPy is that of its own environment.
_RUN_MODULE = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_ASK_VERSIONS = """
import importlib.metadata as metadata, json
found = {}
for name in ("torch", "mpi4py", "mpich", "numpy", "grain", "array_record", "pillow", "simplejpeg"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def peer_python() -> Path:
    """Returns the path of the peers' Python, whether it exists or not."""
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named)
    below = Path(FOLDER, "bin", "python")
    return below.absolute() if below.exists() else ROOT / below


def peer_versions() -> Mapping[str, str]:
    """Returns the versions of the peers' packages by name; empty without an environment."""
    return _versions_in(peer_python())


def reason_missing(package: str) -> str:
    """Returns why the programs of a package cannot run, and how to get it; "" if they can.

    Args:
        package: Its name in the package index, such as "torch".
    """
    python = peer_python()
    if package in _versions_in(python):
        return ""
    if not python.is_file():
        return f"{package} has no environment; `make peers` makes it"
    return f"{package} is not installed in {_shown(python)}; `make peers` installs it"


def module_command(program: str, arguments: Sequence[str]) -> list[str]:
    """Returns the command that runs a module of `tfscale` with the peers' Python.

    Args:
        program: Name of the module.
        arguments: Its command line.
    """
    return [str(peer_python()), "-c", _RUN_MODULE, str(ROOT), program, *arguments]


def torch_command(num_workers: int, program: str, arguments: Sequence[str]) -> list[str]:
    """Returns the command that runs workers of PyTorch: that of `torchrun --standalone`."""
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_workers}"]
    return [str(peer_python()), *run, "--no_python", *module_command(program, arguments)]


def mpi_command(num_workers: int, program: str, arguments: Sequence[str]) -> list[str]:
    """Returns the command that runs ranks under the `mpiexec` of the peers' mpich."""
    mpiexec = peer_python().with_name("mpiexec")
    return [str(mpiexec), "-n", str(num_workers), *module_command(program, arguments)]


def _shown(python: Path) -> str:
    """The environment's folder, relative to the current one where it is below it."""
    folder = python.parent.parent
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)


def _versions_in(python: Path) -> Mapping[str, str]:
    if not python.is_file():
        return {}
    try:
        done = subprocess.run(
            [str(python), "-c", _ASK_VERSIONS],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return found
