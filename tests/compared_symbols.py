"""Compares what the first strategy of a process compares, once in a process that is forked.

Comparing the private symbols of Keras and TensorFlow with their fingerprints takes 0.3 s of
processor time. `changed_release.py` replaces symbols, and others are compared then.
"""

from __future__ import annotations

from strategies.keras_support import installation

installation.changes_by_need()
