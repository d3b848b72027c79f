"""Every known defect of Keras under tf.distribute, as a program of a few lines.

    python -m tests.defects                    all rows; writes docs/concepts/defects.md
    python -m tests.defects --rows=S4,C13      some; renews their lines of the table

Each reproducer is plain Keras written against `run.strategy`. It is run on one device, on the
strategy of TensorFlow ("stock") and on ours, in child processes, and the three are compared.

    silent.py silent_losses.py silent_steps.py silent_workers.py silent_reports.py
                                                     wrong results without an error
    hangs.py                                         waits that do not end
    crashes.py crashes_input.py crashes_steps.py crashes_workers.py
                                                     errors in place of training
    parameter_servers.py                             S14 and C15
"""
