"""What a step of `fit` costs, variants side by side in one run: `tfscale bench`."""
