"""What asynchronous training keeps and costs: real jobs that take minutes to hours."""
