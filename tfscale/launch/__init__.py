"""Starts, supervises and ends the workers of one training job.

Synopsis:

    outcome = tfscale.launch.launch_local_workers(["python", "train.py"], num_workers=2)
    sys.exit(outcome.status)

The same from a shell: `tfscale launch --num_workers=2 -- python train.py`. With `max_restarts` a
failed job is restarted. With `hosts` a job spans several hosts, with one launcher on each. With
`num_ps` a chief runs the program, and workers and parameter servers serve it.
`launch_elastic_workers` runs jobs whose number of workers may change. `launch_function` is for
notebooks. The room `engines` hands jobs to clusters. This package imports neither TensorFlow nor
Keras nor NumPy.
"""

from tfscale.launch.elastic.connection import RendezvousLost
from tfscale.launch.elastic.elastic_workers import launch_elastic_workers
from tfscale.launch.elastic.launcher import ElasticOutcome
from tfscale.launch.elastic.rendezvous import Rendezvous
from tfscale.launch.functions import JobFailed, launch_function
from tfscale.launch.hosts import Hosts
from tfscale.launch.local_workers import launch_local_workers
from tfscale.launch.outcome import PREEMPTED_STATUS, Outcome, WorkerFailure

__all__ = [
    "PREEMPTED_STATUS",
    "ElasticOutcome",
    "Hosts",
    "JobFailed",
    "Outcome",
    "Rendezvous",
    "RendezvousLost",
    "WorkerFailure",
    "launch_elastic_workers",
    "launch_function",
    "launch_local_workers",
]
