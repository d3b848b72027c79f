"""The functions that train, test and predict on all replicas."""
