"""Experiments on the simulator: many runs of the engine as one question.

`cells` is one simulation as a value with a key, `comparison_cells` makes those of a comparison, `sweeps` runs many of them in processes
(`processes`), `tuning` searches parameters, `recorded_runs` finds what a recorded live run ran on and `replaying` simulates it again,
and `checkpoint_scores` evaluates learned policies.
"""
