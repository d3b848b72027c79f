"""Faults on purpose: what a training loses, who notices, and how soon it goes on.

python -m tests.faults                         everything; writes docs/concepts/faults.md
python -m tests.faults --only=kill,resume      cases whose names hold one of the words
python -m tests.faults.soak --minutes=30       a random fault every minute

training.py program.py recording.py notes.py   the training, and what it notes about itself
lines.py                                       the lines by which it tells where it is
injections.py injector.py                      faults that a worker does to itself
interruption.py killing.py chain.py resume.py  killed again and again, compared to the bit
cost.py latency.py                             what op determinism costs, and a restart
job.py timeline.py traces.py                   jobs, their lines by time, what they leave behind
fault.py scene.py                              one fault: what is done, and what came of it
signals.py raising.py crashes.py stalls.py     the faults of one host
shortage.py disks.py starting.py
cables.py links.py                             those of two
catalogue.py table.py versions.py __main__.py  the table and the command
soak.py effective.py                           half an hour of all of it
"""
