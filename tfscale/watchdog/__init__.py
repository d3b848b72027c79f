"""The parts of `tfscale.callbacks.Watchdog`: monitor threads and the comparison of workers."""
