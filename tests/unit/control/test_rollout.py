"""How far a declared service is, and what keeps it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.control.rollout import ServiceRollout, rollout
from tango.domain.observations import InstanceState
from tango.domain.pod_templates import canonical_template
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import RefusalState
from tango.domain.services import Adoption, Service
from tango.domain.snapshot import FleetSnapshot
from tests.fakes.own_fleet import empty_snapshot
from tests.fakes.store_world import FLEET, WEB, instance_of

TEMPLATE = canonical_template({"spec": {"containers": [{"name": "main", "image": "api:1"}]}})
API = replace(WEB, name="api", template=TEMPLATE, container="main")
NODES = sum(len(cluster.nodes) for cluster in FLEET.clusters)


def snapshot(service: Service = API) -> FleetSnapshot:
    """The fleet with the service, all nodes ready."""
    return empty_snapshot(replace(FLEET, services=(*FLEET.services, service)), ())


def instances(*, ready: int, revision: str = API.revision, made: int = NODES) -> list[tuple[str, InstanceState]]:
    """So many of the service, the first of them ready."""
    return [("c1", replace(instance_of(API, f"n{k}"), pod=f"api-{k}", revision=revision, ready=k < ready)) for k in range(made)] + [
        ("c1", instance_of(WEB, "n1"))
    ]


def refused(service: str, words: str, *, node: str = "") -> RefusalState:
    """By c1."""
    return RefusalState(
        cluster="c1",
        service=service,
        node=node,
        role="agent",
        kind=RefusalKind.NODE if node else RefusalKind.QUOTA,
        words=words,
        times=1,
        since_s=0.0,
        left_s=1.0,
    )


@pytest.mark.parametrize(
    ("found", "is_done"),
    [
        (instances(ready=NODES), True),
        (instances(ready=NODES - 1), False),
        ([], False),
        (instances(ready=NODES, revision="before"), False),
        (instances(ready=NODES) + instances(ready=1, revision="before", made=1), False),
    ],
)
def test_a_service_is_done_when_every_instance_is_ready_and_of_this_declaration(
    found: list[tuple[str, InstanceState]], is_done: bool
) -> None:
    """One on each node; what is ready of a declaration before does not count, and has to go."""
    assert rollout(API, snapshot(), found, []).is_done == is_done


def test_nodes_that_are_closed_or_not_ready_get_none() -> None:
    """Fewer are wanted then; where there is no node at all it is never done, and says so."""
    of = snapshot()
    row = [service.name for service in of.services].index("api")
    barred = np.zeros((len(of.services), NODES), np.bool_)
    barred[row, 0] = True
    closed, away = replace(of, barred=barred), replace(of, node_ready=np.zeros(NODES, np.bool_))

    assert rollout(API, closed, instances(ready=NODES - 1, made=NODES - 1), []).is_done
    assert str(rollout(API, away, [], [])) == "api: 0 of 0 instances ready; no node is ready and may run it"


def test_what_keeps_an_instance_is_told_in_the_words_of_who_keeps_it() -> None:
    """Of this service and of all, and of no other one."""
    states = [
        refused("api", "api: ImagePullBackOff: no such image", node="n2"),
        refused("", "exceeded quota"),
        refused("web", "of another"),
    ]

    found = rollout(API, snapshot(), instances(ready=1, made=2), states)

    assert found == ServiceRollout(
        service="api",
        ready=1,
        wanted=NODES,
        outdated=0,
        why=("c1/n2 refuses it, node: api: ImagePullBackOff: no such image", "c1 refuses it, quota: exceeded quota"),
    )


def test_of_adopted_pods_one_at_least_is_wanted() -> None:
    """How many there are is their owner's to say, and which declaration they are of too."""
    adopted = replace(API, template="", container="", adopt=Adoption(namespace="prod", selector="app=api"))

    none, some, all_of_them = (
        rollout(adopted, snapshot(adopted), instances(ready=ready, made=made, revision=""), [])
        for ready, made in ((0, 0), (1, 2), (2, 2))
    )

    assert [r.is_done for r in (none, some, all_of_them)] == [False, False, True]
    assert "no pod in namespace prod that its selector selects" in str(none)
