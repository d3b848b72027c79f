"""Several workers: calls made together, files written by the chief."""
