"""The input of `fit`: epochs, executions, replica batches, and where a run resumes."""
