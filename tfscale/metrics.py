"""Metrics of the user's own on several replicas: how their copies of a variable become one.

    class Longest(keras.metrics.Metric):
        def __init__(self, name="longest"):
            super().__init__(name=name)
            self.longest = combined_by(self.add_variable((), "zeros", name="longest"), "max")

Keras's own metrics need none of this, nor does an update that adds to a variable or takes a maximum
or minimum with it.
"""

from strategies.extension import combined_by

__all__ = ["combined_by"]
