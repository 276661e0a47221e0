"""The domain model: requests, services, clusters, snapshots, plans, resources. Values only; nothing here reads a clock or a network.

Things that come by the thousand (requests, nodes, samples) are one frozen dataclass of arrays (columns); things that come by the dozen
(services, settings) are a dataclass each.
"""
