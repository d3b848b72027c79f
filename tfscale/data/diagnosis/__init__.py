"""Where an input spends its time: its stages, their measurement, and what would help.

`tfscale data bench` and `tfscale.callbacks.InputWait` use it.
"""
