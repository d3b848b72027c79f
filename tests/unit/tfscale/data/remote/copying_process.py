"""Copies remote files and keeps them in use until standard input ends: run by test_remote_folder.

python copying_process.py FOLDER BUDGET ADDRESS...

Says "copied" on stdout when it has them.
"""

from __future__ import annotations

import sys

from tfscale.data import local_copies

if __name__ == "__main__":
    local_copies(sys.argv[3:], sys.argv[1], budget_bytes=int(sys.argv[2]))
    print("copied", flush=True)
    sys.stdin.read()
