"""Names of the queues and what goes where: one set of queues per cluster, and three of the centre.

lc.<cluster>    arrivals to dispatch        be.<cluster>    arrivals for the centre
exec.<cluster>  dispatched LC work to run   control         periodic tasks          replay   release of due requests
                                            simulate        cells of comparisons
"""

from __future__ import annotations

from kombu import Exchange, Queue

CONTROL = "control"
REPLAY = "replay"
SIMULATE = "simulate"

_EXCHANGE = Exchange("tango", type="direct")


def lc_queue(cluster: str) -> str:
    """LC arrivals of a cluster."""
    return f"lc.{cluster}"


def be_queue(cluster: str) -> str:
    """BE arrivals of a cluster."""
    return f"be.{cluster}"


def exec_queue(cluster: str) -> str:
    """LC work dispatched to a cluster."""
    return f"exec.{cluster}"


def declared(names: tuple[str, ...]) -> list[Queue]:
    """Kombu queues of these names on Tango's exchange; a worker consumes what its `-Q` names, made on demand."""
    return [Queue(name, _EXCHANGE, routing_key=name) for name in names]
