"""Modules of the recipe image_classification."""
