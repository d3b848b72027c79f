"""`tfscale preflight --aot`: the step compiled for the chip, and the memory it takes."""
