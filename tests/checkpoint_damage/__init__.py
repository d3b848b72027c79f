"""Damages checkpoints in thousands of ways and looks at what reading makes of each.

    python -m tests.checkpoint_damage --trials=20000 --seed=0

Accidents (flipped bits, lost blocks, mixed files, a pipe in place of a file) must leave the content
as it was written, or be called damage. Forgeries are manifests with other values and a checksum
that is right again. They must be called damage, or load what they describe and no more.
"""
