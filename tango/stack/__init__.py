"""The local stack: a supervisor that starts, watches, restarts and stops every process of Tango on one machine.

`state` holds the addresses of a running stack and the lock that proves it runs; `postgres` and `broker` run the two servers;
`kubeconfig` writes tokens and contexts; `processes` is the table of all other processes; `children` supervises one process and
`supervisor` all of them; `local` joins these parts into one start and one stop.
"""
