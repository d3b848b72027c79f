"""The cost of a step compared with stock strategies: `python -m tests.benchmarks`."""
