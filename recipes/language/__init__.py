"""Modules of the recipe language_model."""
