"""`tfscale doctor`: reports versions, devices, the cluster and the state of the fixes."""
