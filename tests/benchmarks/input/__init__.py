"""The benchmark of reading input: JPEG files are read, decoded, augmented and batched."""
