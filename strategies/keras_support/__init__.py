"""Fixes of Keras's trainer and optimizers under our strategies.

The only place that touches private names of Keras. Importing it changes nothing; the factories of
`strategies` call `support`.
"""

from strategies.keras_support.installation import support

__all__ = ["support"]
