"""Data workers: other processes that compute the batches of a pipeline.

A data worker is stateless. It computes the replica batches of (pipeline, epoch, step, share), a
pure function, so a lost request is sent to another data worker, and a late one to two of them. What
a trainer gets is what its own pipeline would yield.
"""
