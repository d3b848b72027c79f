"""`tfscale doctor`: versions, devices, cluster and fixes."""
