"""The step of one replica: its context, and what it may ask of the other replicas."""
