"""The virtual kubelet: emulates all nodes of a cluster, and speaks only the public Kubernetes API. A process may run several.

    API server ──watch──► kubelet ──► node_pool ──► timeline ──► tango.node_model
         ▲                              │  ▲
         └── status_writer, metrics_writer │
                                        lc_instance ◄── HTTP at a pod address of its own (pod_addresses)

`kubelet` registers nodes, renews their leases and follows pods; `node_pool` admits (`admission`), runs and resizes (`resizing`) pods;
`timeline` advances the node model by the clock; `network` adds the delays between clusters; `pod_spec`, `statuses` and `node_objects`
convert from and to Kubernetes objects.
"""

from tango.emulation.virtual_kubelet.process import VirtualKubeletOptions, run_virtual_kubelets

__all__ = ["VirtualKubeletOptions", "run_virtual_kubelets"]
