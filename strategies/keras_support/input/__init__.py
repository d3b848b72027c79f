"""What `fit` reads: epochs, executions, replica batches."""
