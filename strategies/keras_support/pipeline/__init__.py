"""Pipelines: the layers of a model on several devices, one microbatch behind another."""
