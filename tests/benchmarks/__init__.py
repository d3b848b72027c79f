"""What a step costs beside the peers that are not ours to ship: `python -m tests.benchmarks`."""
