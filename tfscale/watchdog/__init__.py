"""What stands behind `tfscale.callbacks.Watchdog`: the deadline, and the slowest of an epoch."""
