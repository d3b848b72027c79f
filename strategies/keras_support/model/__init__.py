"""The Keras model: how it is built, its variables, and what is refused."""
