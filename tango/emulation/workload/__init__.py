"""The workload program that pods of a real cluster run, and the HTTP protocol that virtual kubelets implement as well.

`python -m tango.emulation.workload serve` answers LC requests; `... run` does the work of one BE request and ends. Both use the CPU time
and hold the memory that a request asks for. `http1` is the protocol, shared with the virtual kubelet so that the two cannot diverge;
`burning` and `memory` use CPU and memory; `service` and `batch` are the two modes.

Only the standard library, httptools and `tango/client/signatures.py` are imported here, so a container image needs nothing but Python,
that package, that file and this folder.
"""
