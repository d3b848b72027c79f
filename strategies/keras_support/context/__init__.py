"""The context of one replica's step, and the values that it computes over all replicas."""
