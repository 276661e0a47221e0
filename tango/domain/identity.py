"""Keys that are unique in a whole fleet: of nodes, of pods, of requests.

Kubernetes makes the names of nodes and pods unique within one cluster only, and clusters made from one template have the same names.
Everything that is kept about a node or a pod is therefore kept under these keys.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tango.errors import UsageError


class NodeKey(NamedTuple):
    """A node of the fleet."""

    cluster: str
    name: str

    def __str__(self) -> str:
        """`cluster/name`, for people; no name of Kubernetes has a slash, so that two nodes never read the same."""
        return f"{self.cluster}/{self.name}"


class PodKey(NamedTuple):
    """A pod in one of the fleet's clusters: in Tango's own namespace by its name, in any other by `namespace/name`."""

    cluster: str
    name: str

    def __str__(self) -> str:
        """`cluster/name`, as for nodes; it is also what an LC instance answers to."""
        return f"{self.cluster}/{self.name}"


def pod_in(namespace: str, name: str) -> str:
    """The name in the fleet of a pod in a namespace; `namespace` is empty for Tango's own."""
    return f"{namespace}/{name}" if namespace else name


def parts_of_pod(name: str) -> tuple[str, str]:
    """(namespace, name in it) of a pod's name in the fleet; the namespace is empty for Tango's own."""
    namespace, _, own = name.rpartition("/")
    return namespace, own


_REQUEST = re.compile(r"(\d{1,9})[-/](\d{1,10})", re.ASCII)


class RequestKey(NamedTuple):
    """A request: its run, and its number in the run."""

    run_id: int
    request_id: int

    def __str__(self) -> str:
        """`RUN-REQUEST`, which needs no escaping in an address, a file name or a shell."""
        return f"{self.run_id}-{self.request_id}"

    @classmethod
    def parsed(cls, text: str) -> RequestKey:
        """The key of its text; `RUN/REQUEST` is read too. Raises: UsageError for any other text."""
        found = _REQUEST.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{text!r} is no id of a request, expected RUN/REQUEST as in 17/4711, or RUN-REQUEST as jobs have it")
        return cls(int(found[1]), int(found[2]))
