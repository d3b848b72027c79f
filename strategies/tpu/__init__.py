"""Cloud TPUs: wheels, resolver, start-up and strategy."""
