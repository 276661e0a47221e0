"""Use cases: each gathers through the ports, decides with a pure function and applies; no library of the outside is named here.

`submit` and `replay` bring requests in, `dispatch_lc` and `execute_lc` carry LC requests, `admission` and `place_be`
BE ones; `observe_cluster`, `reassure` and `reconcile` keep the picture true; `finish_run` computes the figures of a run that ended.
"""
