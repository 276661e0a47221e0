"""Which clusters may join, and under which names."""

from __future__ import annotations

import pytest

from tango.control.join_cluster import require_cluster_name, require_joinable
from tango.errors import UsageError
from tango.store.clusters import ClusterRow

KNOWN = (
    ClusterRow(name="c1", kubeconfig="/stack", context="c1", embedded=True),
    ClusterRow(name="edge", kubeconfig="/mine", context="edge-admin", embedded=False),
)


@pytest.mark.parametrize("name", ["edge", "edge-7", "7", "e" * 63])
def test_a_name_that_kubernetes_takes_is_taken(name: str) -> None:
    """Lower case letters, digits and inner hyphens, at most 63; with a hyphen at its end it is none any more."""
    require_cluster_name(name)
    with pytest.raises(UsageError):
        require_cluster_name(f"{name}-")


@pytest.mark.parametrize("name", ["", "Edge", "edge.7", "edge-", "-edge", "e" * 64])
def test_another_name_is_refused(name: str) -> None:
    """With what is expected."""
    with pytest.raises(UsageError, match="is no name for a cluster, expected lower case letters, digits and '-'"):
        require_cluster_name(name)


def test_the_name_of_an_embedded_cluster_is_refused() -> None:
    """It belongs to the fleet in force."""
    with pytest.raises(UsageError, match="c1 is an embedded cluster of the fleet in force; choose another name"):
        require_joinable("c1", kubeconfig="/other", context="x", known=KNOWN)


def test_one_context_cannot_join_under_two_names() -> None:
    """Its nodes would count twice; the message says under which name it is there."""
    with pytest.raises(UsageError, match="this context is joined already, as edge"):
        require_joinable("second", kubeconfig="/mine", context="edge-admin", known=KNOWN)


@pytest.mark.parametrize(
    ("name", "kubeconfig", "context"),
    [("edge", "/mine", "edge-admin"), ("second", "/mine", "second-admin"), ("second", "/other", "edge-admin")],
    ids=["itself again", "another context of the file", "a context of this name in another file"],
)
def test_a_cluster_of_its_own_may_join(name: str, kubeconfig: str, context: str) -> None:
    """Joining again is how its context or link is changed; once it is there, its context is taken."""
    require_joinable(name, kubeconfig=kubeconfig, context=context, known=KNOWN)
    joined = ClusterRow(name=name, kubeconfig=kubeconfig, context=context, embedded=False)
    with pytest.raises(UsageError, match=f"joined already, as {name}"):
        require_joinable("third", kubeconfig=kubeconfig, context=context, known=(joined,))
