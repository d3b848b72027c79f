"""From the tape to updated weights: reduce, check, clip, apply."""
