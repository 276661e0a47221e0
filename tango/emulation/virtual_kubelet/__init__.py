"""The virtual kubelet: all nodes of one cluster in one process, speaking only the public Kubernetes API.

    API server ──watch──► kubelet ──► node_pool ──► engine ──► tango.node_model
         ▲                              │  ▲
         └── status_writer, metrics_writer │
                                        lc_instance ◄── HTTP at a pod address of its own (pod_addresses)

`kubelet` follows pods and owns the nodes' registration and leases; `node_pool` admits (`admission`), runs and resizes pods;
`engine` drives the node model by the clock; `network` adds what lies between clusters; `pod_spec`, `statuses` and `node_objects`
translate to and from Kubernetes objects.
"""

from tango.emulation.virtual_kubelet.process import VirtualKubeletOptions, run_virtual_kubelet

__all__ = ["VirtualKubeletOptions", "run_virtual_kubelet"]
