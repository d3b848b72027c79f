"""The engine `ray`: a job of a Ray cluster, whose driver runs the workers as actors.

engine    submits the job, and asks Ray about it
driver    the program of the job: places the workers, and starts them again after a loss
worker    the actor of a worker
"""
