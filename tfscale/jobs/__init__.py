"""`tfscale jobs`: lists, watches and stops the jobs that `tfscale launch` submitted."""
