"""TPUs: the wheels, the resolver, the start and the strategy."""
