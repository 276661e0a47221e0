"""Ports (after Cockburn's hexagonal architecture): the interfaces through which the use cases reach stores, broker and clusters.

Each method states its contract, including what happens when a call is made twice, or its message is delivered twice or never.

`tango.store` implements the stores on PostgreSQL, `tango.kube` the cluster, `workers` the publisher; the contract suites in
`tests/contract/` run every implementation, the in-memory ones of `tests/fakes/` too. All ports raise errors of `tango.errors` only.

One module a noun: `runs`, `simulations`, `requests`, `leases`, `checkpoints`, `fleet` and `events` are kept in the database, `messages` go
through the broker, `clusters` and `instances` are reached over the network, and `clock` is the time. Importers name the module.
"""
