"""The engine `tpu_vm`: a job on a Cloud TPU VM, over gcloud.

engine    the engine
scripts   what it runs on the VM
"""
