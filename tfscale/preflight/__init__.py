"""`tfscale preflight`: what a TPU would refuse of a training step, found without one."""
