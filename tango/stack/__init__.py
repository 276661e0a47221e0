"""The local stack: a supervisor that starts, watches, restarts and stops every process of Tango on one machine.

`state` says what runs and where; `postgres` and `broker` describe the two servers; `kubeconfig` hands out identities;
`processes` is the table of everything else; `children` and `supervisor` keep them alive; `local` joins them into one start.
"""
