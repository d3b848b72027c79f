"""The Keras model: how it is built, its parts, its scope, and what is refused."""
