"""Variables, BatchNormalization, random draws, and what layers assign in `call`."""
