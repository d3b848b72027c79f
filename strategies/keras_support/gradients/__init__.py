"""From a tape to updated weights: reduce, check, clip, apply."""
