"""The embedded Kubernetes API server: the subset Tango uses, true to the recorded answers of a real one.

`server` routes calls; `bodies` reads what they bring, `objects` does the verbs, `pod_calls` binding and eviction, `discovery` tells what
there is, `replies` and `failures` word the answers. `storage` keeps versions and history, `journal` makes them durable, `watches` streams
them, `pods` knows defaults and validation, `patches` and `selectors` the two small languages, `authorization` tokens and roles, `faults`
breaks on demand.
"""

from tango.emulation.api_server.process import ApiServerOptions, run_api_server

__all__ = ["ApiServerOptions", "run_api_server"]
