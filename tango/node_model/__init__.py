"""How a node shares CPU and memory, compiled once and used by both worlds.

A node serves latency-critical (LC) instances before best-effort (BE) pods:

- An LC instance with limit L cores and k requests in service offers each `min(1, L/k)` cores; all LC together get at most the
  node's CPU, scaled down evenly beyond it.
- BE pods share what LC leaves by weight, each capped by its limit (water-filling).
- Interference: one second of LC CPU does `1 / (1 + beta x u)` seconds of nominal work, u being the node's BE utilisation
  (BE cores in use over the node's cores). Where a fleet declares kinds of pressure, one second of CPU of any service does
  `1 / interference.slow_down` seconds.
- An instance takes requests in order of arrival as long as its memory and its concurrency hold; the others wait.

`state` has the arrays, `interference` what neighbours do to each other, `pairing_heap` and `kernel` the compiled steps over them, `model`
the class for callers outside a compiled loop, `warm` a call of each. A discrete-event engine calls the kernel's functions from its own
compiled loop; the virtual kubelet drives `NodeModel` by the clock.
"""

from tango.node_model.model import LC, POD, NodeModel, NodeUsage
from tango.node_model.warm import warm_up

__all__ = ["LC", "POD", "NodeModel", "NodeUsage", "warm_up"]
