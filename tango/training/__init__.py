"""Learns policies in simulation: learners, the loop around them, random worlds and runs of the engine to learn from."""
