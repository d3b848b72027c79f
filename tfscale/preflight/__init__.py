"""`tfscale preflight`: finds what a TPU would reject in a training step, without a TPU."""
