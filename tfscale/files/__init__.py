"""Files that are written whole, and secrets that are not written."""
