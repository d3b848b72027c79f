"""A job that is not run yet: how often to save, how long it will take, and what to ask for."""
