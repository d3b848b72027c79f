"""`tfscale verify`: checks that a model trains under a strategy as on one device."""
