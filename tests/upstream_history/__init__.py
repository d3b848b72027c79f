"""How often each symbol of Keras and TensorFlow in use has changed; see `__main__`.

release.py     one release: the symbols in its sources, which are parsed and never imported
places.py      where a symbol was in other releases
changes.py     in which releases a symbol changed
wheels.py      the last patch of every minor release, from the registry
table.py       the tables of docs/concepts/keras_versions.md
"""
