"""Training on N replicas must match training on one device with stock Keras.

`make parity` runs a seeded sweep over configurations of a small model zoo, `make test` a fixed
subset of it. Each run is in a child process; this process does not import TensorFlow.

    python -m tests.parity --seed=7 --cases=40                  what `make parity` runs
    python -m tests.parity.case "mlp clip=clipnorm"             one configuration, in detail
"""
