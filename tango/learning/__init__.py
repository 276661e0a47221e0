"""The learned BE policy `dcg-be`: features of a fleet, a graph network over them, its checkpoints, and the policy around it all.

`features` turns a `FleetSnapshot` into a graph of arrays, `network` (torch) scores its nodes, `assignment` places many requests by
one forward pass with the capacity counted down, `checkpoint` reads and writes networks, `policy` is what the scheduler calls.
"""
