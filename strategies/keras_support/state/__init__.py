"""State of layers over replicas: BatchNormalization, random seeds, what `call` assigns."""
