"""Modules of the recipe linear_regression."""
