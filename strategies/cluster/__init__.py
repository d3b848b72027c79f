"""Clusters: jobs, addresses, this process's task; read from the environment, started, probed."""
