"""`tango bench chaos`: a whole stack under each fault, one after another; what must hold, and what it took to be well again.

    trace (LC and BE, all clusters) ─► run ──────────────────────────────► completed          `load`
    fault          calm ─► strikes ─► all is well from outside ─► calm                       `faults`
    books          every half second: requests, attempts, journals, pods                     `books`

A trial (`trials`) is a run of its own on one stack (`stack`): calm, the fault, calm again. What must hold: nothing lost, nothing doubled,
no two pods of one request at once, no node with more than it has, the run completed, and no BE pod left over. A trial without a fault is
the yardstick. `growth` is load without a fault, for as long as one likes. docs/chaos.md has what was found.
"""
