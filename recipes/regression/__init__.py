"""The parts of the recipe linear_regression."""
