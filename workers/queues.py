"""Names of the queues: four for each cluster, and three for all.

lc.<cluster>      LC arrivals to dispatch         control    periodic tasks
exec.<cluster>    dispatched LC requests to run   replay     release of due BE requests
be.<cluster>      BE arrivals to admit            simulate   cells of comparisons
submit.<cluster>  jobs and LC requests of other applications

`lc` and `exec` are on the cluster's broker, which its own workers consume; all others are on the centre's.
"""

from __future__ import annotations

from kombu import Exchange, Queue

CONTROL = "control"
REPLAY = "replay"
SIMULATE = "simulate"

_EXCHANGE = Exchange("tango", type="direct")
_OWN = ("lc.", "exec.", "be.")
"""How the queues of clusters begin into which Tango alone puts messages."""


def lc_queue(cluster: str) -> str:
    """Queue of LC arrivals at a cluster."""
    return f"lc.{cluster}"


def be_queue(cluster: str) -> str:
    """Queue of BE arrivals at a cluster."""
    return f"be.{cluster}"


def submit_queue(cluster: str) -> str:
    """Queue of what other Celery applications submit for a cluster."""
    return f"submit.{cluster}"


def exec_queue(cluster: str) -> str:
    """Queue of LC requests that entered a cluster and wait for a worker with a free place."""
    return f"exec.{cluster}"


def expires_after_s(queue: str) -> float | None:
    """Seconds after which what waits in a queue is dropped by the broker, unless all of it has been taken meanwhile; None: never.

    Such messages are hints, which rows make again within seconds, so that a queue which nobody consumes holds the hints of a minute and not
    one for every two seconds that somebody is away. Simulations wait longer for a free worker. What other applications submit is no hint,
    and ticks are not added to a queue that nobody consumes.
    """
    if queue.startswith(_OWN) or queue == REPLAY:
        return 60.0
    return 3600.0 if queue == SIMULATE else None


def has_priorities(queue: str) -> bool:
    """Whether messages with a priority may come into a queue: only those that other applications send have one."""
    return not queue.startswith(_OWN)


def declared(names: tuple[str, ...]) -> list[Queue]:
    """Kombu queues of these names on Tango's exchange. The queues of clusters are created when a worker's `-Q` names them."""
    return [Queue(name, _EXCHANGE, routing_key=name) for name in names]
