"""Use cases: each reads through the ports, decides by a pure function and applies the result. No driver or broker is imported here.

`submit` and `replay` bring requests in; `dispatch_lc` and `execute_lc` serve LC requests, `admission` and `place_be` BE ones.
`cluster_agent` observes a cluster and settles what ended there, `reassure` resizes and evicts, `reconcile` repairs what a crash or a lost
message has left; `finish_run` computes the figures of a run that ended, `cancel_run` and `prune_runs` give runs up and delete them,
`join_cluster` says which clusters may join. All but `submit` may be repeated without further effect.
"""
