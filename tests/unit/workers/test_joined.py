"""What `tango status` says of clusters that joined."""

from __future__ import annotations

from tango.domain.observations import Picture
from workers.joined import agents, workers


def picture(cluster: str, agent_age_s: float | None, *, away: bool = False) -> Picture:
    """A picture of a cluster of two nodes."""
    return Picture(cluster=cluster, nodes=2, ready=2, closed=0, age_s=agent_age_s, agent_age_s=agent_age_s, is_away=away)


def test_an_agent_is_shown_by_when_it_was_last_heard_of() -> None:
    """Embedded clusters have their agent among the stack's own processes."""
    pictures = [picture("c1", 0.2), picture("edge-7", 1.6), picture("edge-8", 70.0, away=True), picture("edge-9", None)]

    rows = agents(pictures, ["edge-7", "edge-8", "edge-9"])

    assert [(row["name"], row["state"]) for row in rows] == [
        ("agent of edge-7", "heard 2 s ago"),
        ("agent of edge-8", "away for 70 s"),
        ("agent of edge-9", "never heard of"),
    ]


def test_a_worker_is_shown_with_the_joined_clusters_whose_queues_it_consumes() -> None:
    """The stack's own are processes of the stack."""
    queues = {"w@h": ["lc.edge-7", "exec.edge-7", "lc.edge-8"], "scheduler@h": ["control", "be.edge-7"], "worker-1@h": ["lc.c1"]}

    assert [(row["name"], row["role"]) for row in workers(queues, ["edge-7", "edge-8"])] == [("w@h", "worker of edge-7, edge-8")]
