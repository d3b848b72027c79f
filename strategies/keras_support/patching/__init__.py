"""How a symbol of Keras is replaced, and for which strategies."""
