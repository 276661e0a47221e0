"""The embedded Kubernetes API server: the subset of the API that Tango uses, held to the recorded answers of a real server.

`server` routes HTTP calls; `bodies` parses what they carry; `objects` implements the verbs, `pod_calls` binding and eviction, and
`discovery` the API's description of itself; `replies` and `failures` build the responses. `storage` keeps objects and their history,
`journal` makes them durable, `watches` streams changes. `pods` has defaults and validation of pods, `patches` the three patch formats,
`selectors` label and field selectors, `admission` what a cluster's owner demands beyond the form, `authorization` tokens and roles,
`faults` injected failures. `node_lifecycle` stands for the controllers that a cluster has for its nodes.
"""

from tango.emulation.api_server.process import ApiServerOptions, run_api_servers

__all__ = ["ApiServerOptions", "run_api_servers"]
