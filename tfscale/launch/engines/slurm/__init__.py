"""The engine `slurm`: a batch job whose workers are the tasks of one `srun`.

engine          what `tfscale launch` and `tfscale jobs` call, on a login node
batch_script    the script for sbatch, from what is asked for
options         what `--option NAME=VALUE` may set, and how sbatch calls it
answers         what Slurm's programs answer, read
supervise       the program of the batch job: starts the workers, restarts them, requeues
allocation      the hosts of the job, and the step of srun on them
starts          the record of all starts, over restarts and requeues
worker_task     the program of a task of the step: TF_CONFIG, log, the command, how it ended

The first four run where the job is submitted, the others on the hosts of the job.
"""
