"""Trains the BE network: random worlds on the node model's compiled kernel, A2C, evaluation on seeds that training never sees."""
