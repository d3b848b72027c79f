"""The time of a step on many workers, predicted from a few short measurements."""
