"""Metrics and logs over replicas."""
