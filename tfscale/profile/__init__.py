"""A trace of some training steps: what each worker and each of its threads does, and when.

    tfscale profile mine:build --steps=20 --output=trace.json.gz

Open the file in https://ui.perfetto.dev. In a program of your own: `tfscale.callbacks.Profile`.
"""
