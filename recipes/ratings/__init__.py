"""Who liked what: rows of a user, an item and whether it was liked, and how well a model ranks."""
