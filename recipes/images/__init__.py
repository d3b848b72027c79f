"""The parts of the recipe image_classification."""
