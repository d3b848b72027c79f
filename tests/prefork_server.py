"""Program: runs modules, each in a new process, without importing TensorFlow again for each.

Its arguments are the modules to import first. It reads lines of JSON: `module`, `argv`, `env`,
`cwd`, `stdout`, `stderr`; forks, runs the module in the child as `python -m` does, and answers with
the child's exit status. TensorFlow is imported, but not started, so that a fork is safe and every
child builds its devices. See `tests/prefork.py`.

What is imported is frozen, see `gc.freeze`: the garbage collector of a child looks at its own
objects only.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys
import traceback
import warnings
from typing import Any


def run_child(request: dict[str, Any]) -> int:
    for descriptor, path in ((1, request["stdout"]), (2, request["stderr"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["-m", *request["argv"]]
    try:
        runpy._run_module_as_main(request["module"])  # type: ignore[attr-defined]
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    # Python 3.12 warns of a fork while threads are alive, and NumPy has some.
    warnings.simplefilter("ignore", DeprecationWarning)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = run_child(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _, wait_status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(wait_status), flush=True)


if __name__ == "__main__":
    main()
