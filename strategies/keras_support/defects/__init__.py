"""Defects of Keras under tf.distribute: fixes, public reports, and when a fix can go."""
