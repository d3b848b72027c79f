"""What workers agree on outside of a step: rendezvous, heartbeats, keys of collectives."""
