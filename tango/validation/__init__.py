"""The simulated world against queueing theory: `tango validate`.

Each experiment simulates a queueing model, several times with different seeds, and each of its cells compares one figure with one formula.

    catalogue: experiments ─► execution ─► queueing_models: fleet, requests ─► tango.sim ─► figures of one replication
                                  │                                                                │
    formulas: what theory says ───┴──► verdicts ◄── estimates: mean and 99 % interval ◄────────────┘

`distributions` has how work is drawn. Nothing here is told what a formula says while it simulates.
"""
