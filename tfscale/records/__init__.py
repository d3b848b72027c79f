"""TFRecord files and their indexes, without TensorFlow."""
