"""What nodes keep for the LC of tenants, what the fleet cannot keep, and a round of sharing by it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.identity import NodeKey
from tango.domain.observations import InstanceState
from tango.domain.services import Service, ServiceClass
from tango.domain.tenants import Guarantee, Tenant
from tango.errors import RequestRejected
from tango.scheduling.guarantees import LcNodes, guarantees_of, refuse_beyond
from tango.scheduling.sharing import NodeCapacity, Tail, plan_sharing
from tango.settings import SharingSettings

N1 = NodeKey("c1", "n1")
SETTINGS = SharingSettings(min_samples=5, grow_below=0.2, shrink_above=0.7, grow_factor=1.5, hold_s=3.0)
WEB = Service(
    name="web",
    service_class=ServiceClass.LC,
    cpu_work_s=0.02,
    memory_mib=32,
    target_ms=100.0,
    instance_memory_mib=128,
    cpu_request_millicores=500,
    cpu_limit_millicores=1000,
    tenant="blue",
)
CHAT = replace(WEB, name="chat", tenant="red")
MAIL = replace(WEB, name="mail", tenant="green")
SERVICES = {s.name: s for s in (CHAT, MAIL, WEB)}


def nodes(*services: Service, cores: tuple[float, ...] = (8, 4, 4), cluster: tuple[int, ...] = (0, 0, 1)) -> LcNodes:
    """Three nodes in two clusters, each with an instance of every service."""
    return LcNodes.of(
        services,
        clusters=("c1", "c2"),
        node_cluster=np.array(cluster, np.int32),
        cpu_allocatable=np.array(cores) * 1000.0,
        reserve_millicores=0.0,
    )


def declared(**cores: float | tuple[float, tuple[str, ...]]) -> dict[str, Tenant]:
    """Tenants with so many cores guaranteed, in all clusters or in those named."""
    found = {}
    for name, said in cores.items():
        cpu, clusters = said if isinstance(said, tuple) else (said, ())
        found[name] = Tenant(name=name, guarantee=Guarantee(cpu_millicores=round(cpu * 1000), clusters=clusters))
    return found


# ---- what nodes keep ---------------------------------------------------------------------------------------------------------------


def test_a_guarantee_is_what_instances_request_and_the_rest_by_the_room_of_nodes() -> None:
    """Two services request half a core each of 8, 4 and 4: 7, 3 and 3 are left. Of 8 cores 1.5 are what blue's own instances request, and
    the other 6.5, half of the room, are half of each node's."""
    found = guarantees_of(declared(blue=8.0), nodes(WEB, CHAT))

    assert found.tenants == ("blue",)
    assert found.of_service.tolist() == [0, 1]
    assert found.kept_millicores.tolist() == [[500 + 3500, 500 + 1500, 500 + 1500]]


def test_a_guarantee_in_a_cluster_is_of_its_nodes_alone() -> None:
    """And one that is no more than what instances request anyway keeps that."""
    in_c2, little = guarantees_of(declared(blue=(2.0, ("c2",))), nodes(WEB, CHAT)), guarantees_of(declared(blue=0.1), nodes(WEB))

    assert in_c2.kept_millicores.tolist() == [[0, 0, 2000]]
    assert little.kept_millicores.tolist() == [[500, 500, 500]]


def test_guarantees_beyond_the_fleet_are_refused_with_numbers() -> None:
    """As many as there is room for are taken: 13 cores beyond the 3 that instances request, of which 1.5 are each tenant's own."""
    here = nodes(WEB, CHAT)

    refuse_beyond(declared(blue=8.0, red=8.0), here)
    with pytest.raises(RequestRejected) as refused:
        refuse_beyond(declared(blue=8.0, red=8.1), here)

    said = str(refused.value)
    assert "cluster c1 cannot keep what tenants are guaranteed: of 12 CPU its LC instances request 2" in said
    assert "which leaves 10" in said
    assert "blue 5, red 5077m" in said


def test_a_cluster_is_refused_by_itself_and_by_its_name() -> None:
    """The fleet has room enough, but not where it is asked for; a cluster that there is not is a mistake."""
    with pytest.raises(RequestRejected, match="cluster c2 cannot keep"):
        refuse_beyond(declared(blue=(4.5, ("c2",))), nodes(WEB, CHAT))
    with pytest.raises(RequestRejected, match=r"tenant blue: guarantee\.clusters names c3, expected clusters of the fleet: c1, c2"):
        refuse_beyond(declared(blue=(1.0, ("c3",))), nodes(WEB))


@given(
    cores=st.lists(st.floats(1.0, 64.0), min_size=3, max_size=3),
    blue=st.floats(0.1, 100.0),
    red=st.floats(0.1, 100.0),
    where=st.sampled_from([(), ("c1",), ("c2",), ("c1", "c2")]),
)
def test_no_node_ever_keeps_more_than_it_has(cores: list[float], blue: float, red: float, where: tuple[str, ...]) -> None:
    """What nodes keep for all, with what instances of others request, fits; what is not refused is kept whole."""
    here = nodes(WEB, CHAT, MAIL, cores=(cores[0] + 2, cores[1] + 2, cores[2] + 2))
    asked = declared(blue=blue, red=(red, where))

    found = guarantees_of(asked, here)

    unguaranteed = here.requested[[k for k, s in enumerate(here.services) if s.tenant == "green"]].sum(axis=0)
    held = np.maximum(found.kept_millicores, here.requested[:2])
    assert (held.sum(axis=0) + unguaranteed <= here.cpu_allocatable + 1e-6).all()
    try:
        refuse_beyond(asked, here)
    except RequestRejected:
        return
    for t, name in enumerate(found.tenants):
        guarantee = asked[name].guarantee
        assert guarantee is not None
        assert found.kept_millicores[t].sum() >= guarantee.cpu_millicores - 1e-3


# ---- a round of sharing ------------------------------------------------------------------------------------------------------------


def instance(service: str, *, limit: int, request: int | None = None, ready: bool = True, k: int = 0) -> InstanceState:
    """One on the node; its request is half of its limit."""
    return InstanceState(
        pod=f"{service}-{k}",
        uid="u",
        service=service,
        node="n1",
        pod_ip="10.0.0.1",
        port=8080,
        ready=ready,
        cpu_request_millicores=limit // 2 if request is None else request,
        cpu_limit_millicores=limit,
        memory_limit_mib=128,
    )


def planned(
    *instances: InstanceState, late: Collection[str], asked: Collection[str] = (), rule: str = "hrm", **kept: float
) -> dict[str, tuple[str, int, int]]:
    """(reason, limit, request) by pod, on a node of 8 cores; services that are late have a tail of 90 of their 100 ms."""
    found = plan_sharing(
        SERVICES,
        [("c1", i) for i in instances],
        {(name, N1): Tail(latency_ms=90.0, samples=5) for name in late},
        {N1: NodeCapacity(cpu_allocatable_millicores=8000, be_cpu_request_millicores=0, kept_millicores=kept, asked=asked)},
        {},
        1000.0,
        SETTINGS,
        rule=rule,
    )
    return {r.pod: (r.reason, r.cpu_limit_after_millicores, r.cpu_request_after_millicores) for r in found.resizes}


def test_others_give_back_what_is_guaranteed_and_its_tenant_grows_beside_them() -> None:
    """Chat has seven of eight cores. Three are kept for blue, whose service is late: chat falls to five at once, and web grows."""
    chat, web = instance("chat", limit=7000), instance("web", limit=1000)

    assert planned(chat, web, late=("chat", "web")) == {}
    assert planned(chat, web, late=("chat", "web"), blue=3000) == {
        "chat-0": ("guarantee", 5000, 2500),
        "web-0": ("grow", 1500, 750),
    }


def test_a_guarantee_counts_while_its_services_are_asked() -> None:
    """While nobody asks, others may have all; requests in flight are enough, since who is starved answers nothing."""
    chat, web = instance("chat", limit=7000), instance("web", limit=1000)

    assert planned(chat, web, late=("chat",), blue=3000) == {}
    assert planned(chat, web, late=("chat",), asked=("web",), blue=3000) == {"chat-0": ("guarantee", 5000, 2500)}


def test_others_grow_no_further_than_what_is_kept() -> None:
    """Beside three of eight cores that are kept, four become five."""
    found = planned(instance("chat", limit=4000), instance("web", limit=1000), late=("chat",), asked=("web",), blue=3000)

    assert found == {"chat-0": ("grow", 5000, 2500)}


def test_who_has_a_guarantee_may_have_more_while_others_leave_it() -> None:
    """A guarantee is no quota: beyond it web grows as it would without one."""
    found = planned(instance("chat", limit=1000), instance("web", limit=4000), late=("web",), blue=3000)

    assert found == {"web-0": ("grow", 6000, 3000)}


def test_of_several_guarantees_whoever_holds_more_than_his_own_gives() -> None:
    """Blue and green have three cores each of eight. Green has borrowed and gives back what blue has not, to what it is guaranteed itself;
    who is guaranteed nothing keeps what his instance requests at the least."""
    found = planned(
        instance("chat", limit=2000),
        instance("mail", limit=5000),
        instance("web", limit=1000),
        late=("web", "mail"),
        blue=3000,
        green=3000,
    )

    assert {pod: reason for pod, (reason, _, _) in found.items()} == {"chat-0": "guarantee", "mail-0": "guarantee", "web-0": "grow"}
    chat, mail = found["chat-0"][1], found["mail-0"][1]
    assert chat + mail <= 5000
    assert chat >= 500
    assert mail >= 3000


def test_no_instance_falls_below_its_declared_request_nor_one_that_is_not_ready() -> None:
    """The guarantee is larger than what the node has beside them: they keep what they are declared with."""
    found = planned(
        instance("chat", limit=4000),
        instance("chat", limit=2000, ready=False, k=1),
        instance("web", limit=1000),
        late=("web",),
        blue=7800,
    )

    assert found["chat-0"] == ("guarantee", 500, 250)
    assert "chat-1" not in found


def test_who_gave_back_more_than_it_declares_has_that_again_when_nobody_asks() -> None:
    """Without being late: it is what its declaration says that it has."""
    found = planned(instance("chat", limit=500, request=250), instance("web", limit=1000), late=(), blue=7400)

    assert found == {"chat-0": ("grow", 1000, 500)}


def test_under_burst_the_limits_of_others_divide_what_a_guarantee_leaves() -> None:
    """Both have the node as their limit. Of eight cores three are kept: chat's limit falls to five, web keeps the node, and its request
    grows. When nobody asks for web any more chat gets the node back."""
    chat, web = instance("chat", limit=8000, request=1500), instance("web", limit=8000, request=500)

    found = planned(chat, web, late=("web",), rule="burst", blue=3000)
    back = planned(instance("chat", limit=5000, request=1500), web, late=("chat",), rule="burst", blue=3000)

    assert found == {"chat-0": ("guarantee", 5000, 1500), "web-0": ("grow", 8000, 750)}
    assert back["chat-0"][1] == 8000


def test_a_static_rule_moves_nothing_for_a_guarantee() -> None:
    """Instances stay as declared: what they were given stands beside the declaration for all to see."""
    assert planned(instance("chat", limit=7000), instance("web", limit=1000), late=("web",), rule="static", blue=3000) == {}


@given(
    limits=st.lists(st.integers(600, 8000), min_size=3, max_size=3),
    late=st.sets(st.sampled_from(["chat", "mail", "web"])),
    rule=st.sampled_from(["hrm", "ceres", "burst"]),
    blue=st.integers(500, 3000),
    green=st.one_of(st.just(0), st.integers(500, 3000)),
)
def test_after_a_round_others_leave_what_is_kept(limits: list[int], late: set[str], rule: str, blue: int, green: int) -> None:
    """Whatever instances had: the limits of all but blue's are together no more than blue's guarantee leaves, to a step."""
    each = dict(zip(("chat", "mail", "web"), limits, strict=True))
    kept = {"blue": blue} | ({"green": green} if green else {})
    instances = [instance(name, limit=limit, request=min(limit // 2, 2000)) for name, limit in each.items()]

    found = planned(*instances, late=late, asked=("web", "mail"), rule=rule, **kept)

    after = {name: found[f"{name}-0"][1] if f"{name}-0" in found else limit for name, limit in each.items()}
    assert after["chat"] + after["mail"] <= max(8000 - blue, 1002) + 50
    if green:
        assert after["chat"] + after["web"] <= max(8000 - green, 1002) + 50
