"""Defects of Keras under tf.distribute: what fixes each, its thread, when the fix can go."""
