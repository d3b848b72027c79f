"""Custom metrics on several replicas: how the replicas' copies of a variable are combined.

    class Longest(keras.metrics.Metric):
        def __init__(self, name="longest"):
            super().__init__(name=name)
            self.longest = combined_by(self.add_variable((), "zeros", name="longest"), "max")

Keras's metrics do not need this. Neither does a custom metric whose update adds to a variable or
takes the maximum or minimum with it.
"""

from strategies.extension import combined_by

__all__ = ["combined_by"]
