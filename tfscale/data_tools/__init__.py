"""`tfscale data`: tools for files of examples, each in a module of its name."""
