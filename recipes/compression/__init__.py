"""What `recipes.compress` does with the run of another recipe."""
