"""The node agent: makes Tango's decisions hold on a node within milliseconds, and keeps best-effort work out of LC's way there.

    API server ── pods of this node ──► pods.py: what is asked, what the kubelet has done
                                          │
    kernel ── accounts, pressure ──► isolation.py: what BE may take ──► wanted.py: what is to be set, in an order
    (tango.cgroups)                                                        │
                                    ledger.py: writes it, reads it back, remembers what was found ──► kernel
    agent.py is the loop's one step; reports.py what it tells.

It imports the standard library, `tango.cgroups`, `tango.domain` and `tango.errors` alone; what it is connected to stands in
`tango.bootstrap.node_agent`.

Source: Tango (Feng et al., ICPP 2023), the D-VPA, which moves a container and its pod in the order that the kernel allows; here on
control groups of version 2 too, beside a kubelet that resizes in place.
"""
