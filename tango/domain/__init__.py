"""The nouns: requests, services, clusters, snapshots, plans, resources. Values only; nothing here reads a clock or a network.

What comes by the thousand is one frozen dataclass of arrays (columns); what comes by the dozen is a dataclass each.
"""
