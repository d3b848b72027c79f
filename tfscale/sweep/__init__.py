"""Runs a training command many times with other flags, to find the best ones.

    tfscale sweep --trials=20 --log learning_rate=1e-4..1e-1 --goal=val_loss \
        --direction=minimize -- python train.py

A program that is not Keras reports its values itself; in Keras it is
`tfscale.callbacks.ReportTrial`:

    from tfscale.sweep import report_trial

    report_trial({"val_loss": 0.3}, step=1)
"""

from tfscale.sweep.reports import report_trial

__all__ = ["report_trial"]
