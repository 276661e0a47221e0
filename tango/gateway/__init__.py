"""Where callers reach a cluster: HTTP in, rows in the cluster's journal, and the answer streamed back as it comes from the worker.

    caller ──► server (limits) ──► door (token, places) ──► service_calls (/s/…) ──► intake ──► journal, then one message
                                                                  ▲ answer
    worker ──► answers (listener for workers) ──► waiting ────────┘

A gateway keeps nothing that matters: what it has accepted is in the journal, and it may die at any instant. `view` is what it knows of
its cluster, `headers` what callers may ask by headers and which of theirs go on, `outlook` when a queue is hopeless, `problems` how
callers are told what is wrong, `protocol` also those who send no HTTP, `requests` the state and the answers of requests that nobody waits
for.
"""
