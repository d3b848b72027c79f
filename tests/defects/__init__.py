"""Every known defect of Keras under tf.distribute, each shown by a program of a few lines.

    python -m tests.defects                    all rows; writes docs/concepts/defects.md
    python -m tests.defects --rows=S4,C13      some rows; replaces their lines

Each reproducer is plain Keras code under `run.strategy`. It runs on one device, under TensorFlow's
strategy ("stock") and under ours, in child processes, and the three results are compared.

    silent.py silent_losses.py silent_steps.py silent_workers.py silent_reports.py
                                                     wrong results without an error
    hangs.py                                         waits that do not end
    crashes.py crashes_input.py crashes_steps.py crashes_workers.py
                                                     errors instead of training
    parameter_servers.py                             S14 and C15
"""
