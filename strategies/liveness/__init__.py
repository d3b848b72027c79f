"""What workers know of each other while they wait: heartbeats, where each is, who holds up whom."""
