"""Joins the parts. The environment is read here, once a process, and nowhere else.

`environment` reads settings and sets logging up; `stores` gives PostgreSQL's stores, which is all that commands need that look; `world`
adds gateway, policies and use cases for the processes that do the work; `agent` runs one cluster's agent.
"""
