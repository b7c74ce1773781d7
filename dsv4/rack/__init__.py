"""Training past one machine: sharded weights, experts spread over processes, checkpoints that any number can read."""
