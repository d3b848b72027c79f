"""What workers exchange outside of a step: messages, heartbeats and keys of collectives."""
