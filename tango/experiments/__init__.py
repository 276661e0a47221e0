"""Experiments on the simulator: many runs of the engine as one question.

`cells` is one simulation as a value with a key, `sweeps` runs many of them in processes (`processes`), `tuning` searches parameters,
`replaying` simulates a recorded live run again, and `checkpoint_scores` evaluates learned policies.
"""
