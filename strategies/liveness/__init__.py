"""Heartbeats of workers, what each worker is doing, and which one delays the job."""
