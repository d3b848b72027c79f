"""Kubernetes: a job as a JobSet, an Indexed Job, or a TrainJob of Kubeflow Trainer v2.

    tfscale launch --engine=kubernetes --option image=registry.example/digits:1 --num_workers=4 \
        -- python train.py

| module | what it knows |
|---|---|
| `settings` | the options |
| `roles` | which pods there are, and the variables from which they read their cluster |
| `pod_template`, `manifests` | the manifest, as plain data |
| `controllers` | the pods that Kubernetes makes of it |
| `rules` | what it must fulfil besides its schema |
| `answers` | a job's status from what kubectl prints |
| `engine` | the commands |
| `pod_output` | the program in the pods that also writes their output to a file |
"""

from tfscale.launch.engines.kubernetes.engine import Kubernetes

__all__ = ["Kubernetes"]
