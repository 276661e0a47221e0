"""What a run was worth: figures, time series, paired comparison and verdicts, live and simulated alike.

`metrics` is the one function behind all figures of a run, `series` what plots need of it. `comparison` pairs the systems of a sweep by
seed, `intervals` gives the confidence intervals of their differences, `compared_metrics` says which metrics are compared and in which
direction they improve, and `verdicts` judges one system against the others. Columns in, values out: nothing here reads a store.
"""
