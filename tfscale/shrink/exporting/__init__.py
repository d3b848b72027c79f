"""Models as files of other runtimes, each file run in its own runtime and compared with Keras.

`conversion.export` writes and compares one file, `tfscale export` several of them.
"""
