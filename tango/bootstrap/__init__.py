"""Composes the parts, with one composition root per role of process. Only here is the environment read, once per process.

`environment` reads settings and sets logging up; `stores` builds PostgreSQL's stores, all that commands need that only read.
`cluster_worker`, `scheduler`, `replayer` and `agent` each build what one kind of process does: a use case is an object of
`tango.control`, which is given its ports once, here, and then called once per event.
"""
