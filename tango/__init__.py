"""Tango: mixed latency-critical and best-effort work over many small Kubernetes clusters.

The library behind the `tango` command: pure decisions below, the outer world above. `docs/ARCHITECTURE.md` shows the rooms.
"""

__version__ = "0.1.0"
