"""What `fit` reads: epochs, executions, replica batches, and where a run resumes."""
