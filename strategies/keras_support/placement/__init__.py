"""Where a replica's variables are, if it has several devices."""
