"""Damages checkpoints in thousands of ways, and reads each of them.

    python -m tests.checkpoint_damage --trials=20000 --seed=0

After accidents (flipped bits, lost blocks, mixed files, a pipe in place of a file) the content must
be read as it was written, or an error must report the damage. Forgeries are manifests with other
values and a right checksum. They must be reported as damage, or load only what they describe.
"""
