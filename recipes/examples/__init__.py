"""Short scripts, one feature each, to run and to copy from. Each begins with its command."""
