"""Keys of nodes and pods that are unique in a whole fleet.

Kubernetes makes the names of nodes and pods unique within one cluster only, and clusters made from one template have the same names.
Everything that is kept about a node or a pod is therefore kept under these keys.
"""

from __future__ import annotations

from typing import NamedTuple


class NodeKey(NamedTuple):
    """A node of the fleet."""

    cluster: str
    name: str

    def __str__(self) -> str:
        """`cluster/name`, for people; no name of Kubernetes has a slash, so that two nodes never read the same."""
        return f"{self.cluster}/{self.name}"


class PodKey(NamedTuple):
    """A pod of Tango's namespace in one of the fleet's clusters."""

    cluster: str
    name: str

    def __str__(self) -> str:
        """`cluster/name`, as for nodes; it is also what an LC instance answers to."""
        return f"{self.cluster}/{self.name}"
