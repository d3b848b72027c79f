"""Heartbeats of workers, what each worker is doing, and which one holds up the job."""
