"""Learned policies: features of a fleet, a graph network over them, checkpoint files, and the BE policies that decide by them.

`features` turns a `FleetSnapshot` into a graph of arrays, `network` (torch) embeds its nodes, `assignment` places many requests after
one forward pass while it counts capacity down, `checkpoint` reads and writes files, `policy` is what the scheduler calls. `lc_layer`
reads the small layer of the LC policy `dsaco`, which the compiled dispatch evaluates.
"""
