"""Programs of the peers of `tfscale bench`: PyTorch and mpi4py, in an environment of their own.

These modules import the standard library, NumPy, torch or mpi4py, and modules of `tfscale` that
need no more than that. The environment is named in `environment.py`.
"""
