"""The engine `mpi`: mpiexec or mpirun starts the workers, on one host or several.

engine    the engine: checks, and runs a job in the foreground
command   the command line of each MPI
starts    one start of a job, from mpiexec to its end
worker    the program of every rank: runs the user's command and reports how it ended
report    what it reports
"""
