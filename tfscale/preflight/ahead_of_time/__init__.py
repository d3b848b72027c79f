"""`tfscale preflight --aot`: compiles the step for the chip and reports its memory."""
