"""Engines that reduce between workers, other than TensorFlow's: today MPI."""
