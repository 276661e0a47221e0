"""Statistics of runs: figures, time series, paired comparisons and verdicts, for live and simulated runs alike.

`metrics` computes all figures of a run, `series` the data of its plots. `comparison` pairs the systems of a sweep by seed; `intervals`
has the confidence intervals and tests of their differences; `compared_metrics` lists the metrics that are compared and which direction is
better; `verdicts` judges one system against the others. All functions take columns and return values; none reads a store.
"""
