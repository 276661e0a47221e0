"""Joins the parts: one composition a role. The environment is read here, once a process, and nowhere else.

`environment` reads settings and sets logging up; `stores` gives PostgreSQL's stores, which is all that commands need that look.
`cluster_worker`, `scheduler`, `replayer` and `agent` each build what one kind of process does: a use case is an object of
`tango.control`, given its ports once, here, and then called once an event.
"""
