"""The workload program: what the pods of a real cluster run, and the HTTP protocol that virtual kubelets answer as well.

`python -m tango.emulation.workload serve` answers LC requests, `... run` does one BE request's work and ends; both burn the CPU and
hold the memory they are asked for. `http1` is the protocol, used by the virtual kubelet too, so that the two cannot drift apart;
`burning` and `memory` do the work, `service` and `batch` are the two modes.

Only the standard library and httptools are imported here, so that an image needs nothing but Python, that one package and this folder.
"""
