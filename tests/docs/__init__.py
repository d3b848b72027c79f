"""The fenced blocks of README.md and docs/, run as a reader would run them.

    python -m tests.docs                     every page; `make docs-test`
    python -m tests.docs README.md docs/tutorial.md

The wheel is built and installed with its dependencies into a fresh environment. Each page gets an
empty folder and one Python process, so its `python` blocks share one namespace. `sh` blocks run in
the same folder, in page order. How a block is written:

* A block with `title="train.py"`, or after a line `<!-- file: train.py -->`, is written to that
  file and not run by itself.
* A block that only includes a file is tested with that file. The name stands between two lines
  `--8<--`; on one line ruff would take it for Python.
* `<!-- not run: REASON -->` on the line before a block leaves it out.
* `<!-- set-up, not shown` on a line, code on the lines below, and `-->` on the last line is Python
  that runs and is not shown.
* Blocks of `text`, `diff`, `json`, `toml`, `yaml`, `ini` and `html`, and those without a language,
  show something and are not run.
"""
