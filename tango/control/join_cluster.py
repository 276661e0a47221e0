"""Join: which clusters may join a stack under which name. Whether Tango can work there, `tango.kube.joining` looks for itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from tango.errors import UsageError


class KnownCluster(Protocol):
    """A cluster that is declared or has joined."""

    @property
    def name(self) -> str:
        """Unique in the stack."""
        ...

    @property
    def kubeconfig(self) -> str:
        """Path of the file that has its context."""
        ...

    @property
    def context(self) -> str:
        """Name of the context in that file."""
        ...

    @property
    def embedded(self) -> bool:
        """Whether it belongs to the fleet that `tango up` started."""
        ...


def require_cluster_name(name: str) -> None:
    """Raises: UsageError for a name that Kubernetes would not take as a label: it goes into labels, queues and worker names."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise UsageError(f"{name!r} is no name for a cluster, expected lower case letters, digits and '-', as Kubernetes has it")


def require_joinable(name: str, *, kubeconfig: str, context: str, known: Iterable[KnownCluster]) -> None:
    """Check a cluster against those that are there; `kubeconfig` is an absolute path. Joining under the same name again is allowed.

    Raises: UsageError for the name of an embedded cluster, and for a context that has joined under another name.
    """
    others = list(known)
    if any(other.name == name and other.embedded for other in others):
        raise UsageError(f"{name} is an embedded cluster of the fleet in force; choose another name")
    for other in others:
        if other.name != name and (other.kubeconfig, other.context) == (kubeconfig, context):
            # Two names for one API server would have two agents count, place on and evict from the same nodes.
            raise UsageError(f"this context is joined already, as {other.name}; its nodes would count twice")
