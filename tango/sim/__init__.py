"""The simulated world: the same decisions and the same node model as live, on virtual time (docs/decisions/0011)."""
