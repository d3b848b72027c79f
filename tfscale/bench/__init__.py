"""`tfscale bench`: times training steps of several variants side by side in one run."""
