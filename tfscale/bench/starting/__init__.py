"""The programs of `tfscale bench startup`: from the command to the end of one training step."""
