"""Whether a user's own model is trained under a strategy as on one device: `tfscale verify`."""
