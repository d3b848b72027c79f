"""Several workers: collective calls, agreement on the model, files written by the chief."""
