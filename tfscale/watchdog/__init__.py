"""What stands behind `tfscale.callbacks.Watchdog`: heartbeats, who is judged to hold up whom."""
