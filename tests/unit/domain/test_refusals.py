"""What refusals bar, and what of a plan tries them again."""

from __future__ import annotations

import numpy as np

from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Pauses, RefusalState
from tests.fakes.store_world import BATCH, HUGE, memory_world

WORLD = memory_world()
SNAPSHOT = WORLD.fleet.snapshot(at_s=0.0)
SERVICES = {s.name: k for k, s in enumerate(SNAPSHOT.services)}


def state(cluster: str, *, service: str = "", node: str = "", left_s: float = 1.0) -> RefusalState:
    """A row."""
    return RefusalState(
        cluster=cluster,
        service=service,
        node=node,
        role="scheduler",
        kind=RefusalKind.QUOTA,
        words="exceeded quota",
        times=1,
        since_s=0.0,
        left_s=left_s,
    )


def test_a_row_bars_what_it_speaks_of_while_it_is_paused() -> None:
    """A cluster, a service there, a service on a node; nothing when the pause is over."""
    barred = Pauses((state("c2"), state("c1", service="batch", node="c1-n1"), state("c1", left_s=0.0))).barred(SNAPSHOT)

    assert barred[SERVICES["batch"]].tolist() == [True, False, True]
    assert barred[SERVICES["huge"]].tolist() == [False, False, True]


def test_of_what_is_over_one_pod_is_tried() -> None:
    """The first of each scope; what is on other nodes, or of other services, stays."""
    batch, huge = SERVICES[BATCH.name], SERVICES[HUGE.name]
    services = np.array([batch, batch, huge, batch], np.int32)
    plan = np.array([0, 1, 0, 2], np.int32)

    of_service = Pauses((state("c1", service="batch", left_s=0.0),)).one_of_each(services, plan, SNAPSHOT)
    of_cluster = Pauses((state("c1", left_s=-5.0),)).one_of_each(services, plan, SNAPSHOT)
    paused = Pauses((state("c1"),)).one_of_each(services, plan, SNAPSHOT)

    assert of_service.tolist() == [0, -1, 0, 2]
    assert of_cluster.tolist() == [0, -1, -1, 2]
    assert paused.tolist() == plan.tolist()
