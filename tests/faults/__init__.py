"""Injected faults: what a training loses, what notices the fault, and when training continues.

python -m tests.faults                         everything; writes docs/concepts/faults.md
python -m tests.faults --only=kill,resume      cases whose names contain one of the words
python -m tests.faults.soak --minutes=30       a random fault every minute

training.py program.py recording.py notes.py   the training, and what it records
lines.py                                       the lines that report its progress
injections.py injector.py                      faults that a worker does to itself
interruption.py killing.py chain.py resume.py  killed repeatedly, compared bit for bit
cost.py latency.py                             the cost of op determinism, and of a restart
job.py timeline.py traces.py                   jobs, their lines with times, what they leave
fault.py scene.py                              one fault: what is done, and the result
signals.py failures.py stalls.py shortage.py   the faults of one host
disks.py starting.py
cables.py links.py                             those of two
catalogue.py table.py versions.py __main__.py  the table and the command
soak.py effective.py                           half an hour of all of it
test_elastic.py                                a host that is lost and comes back
"""
