"""How symbols of Keras are replaced, and for which strategies."""
