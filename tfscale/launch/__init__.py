"""Workers of one training job, started and ended together.

Synopsis:

    outcome = tfscale.launch.launch_local_workers(["python", "train.py"], num_workers=2)
    sys.exit(outcome.status)

The same from a shell: `tfscale launch --num_workers=2 -- python train.py`. With `max_restarts` a
job that fails is started again; with `hosts` it spans several hosts, one launcher on each; with
`num_ps` a chief runs the program, and workers and parameter servers serve it.
Nothing here imports TensorFlow, Keras or numpy.
"""

from tfscale.launch.hosts import Hosts
from tfscale.launch.local_workers import launch_local_workers
from tfscale.launch.outcome import PREEMPTED_STATUS, Outcome, WorkerFailure

__all__ = ["PREEMPTED_STATUS", "Hosts", "Outcome", "WorkerFailure", "launch_local_workers"]
