"""Jobs whose number of workers changes: one launcher per host, and a rendezvous between them.

    membership          which hosts train together, and when that changes; no sockets, no clock
    memory              whether the hosts have room for fewer workers, with larger shares each
    messages            what launchers and rendezvous say to each other
    rendezvous_server   the rendezvous: a thread of the launcher that its address belongs to
    connection          a launcher's connection to it
    rendezvous          what all launchers of a job are started with
    supervision         the workers of one host in one start of the job
    launcher            a launcher, from the rendezvous to the end of the job
    elastic_workers     all of it as a function
    flags               the flags of `tfscale launch`

TensorFlow cannot add or remove a worker of a running cluster, so a change of size is a restart of
the whole job from its last checkpoint.
"""
