"""The calls to clusters against an embedded API server and a virtual kubelet, both processes of their own."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tango.domain.identity import NodeKey, PodKey
from tango.domain.plans import Eviction, Resize
from tango.domain.runs import Placement
from tango.domain.services import Adoption, Service
from tango.errors import ClusterError, ClusterUnavailable, Conflict, Forbidden, Invalid, NotFound, Throttled, UsageError
from tango.fleets import dump_fleet
from tango.kube.cluster_calls import KubernetesCalls
from tango.kube.manifests import be_pod, binding, lc_instance
from tango.settings import KubeSettings
from tests.fakes.store_world import BATCH, FLEET, SERVICES, WEB
from tests.integration.kube_cluster import PODS, EmbeddedCluster, Json, until

SILENT_S = 30
"""Seconds for which a server that keeps silent does so: far longer than all attempts may take."""
FAST = KubeSettings(connect_timeout_s=0.5, read_timeout_s=1.0, attempts=3, backoff_base_s=0.01, backoff_cap_s=0.05)


@dataclass(slots=True)
class Site:
    """The cluster, and calls to it as Tango's role."""

    cluster: EmbeddedCluster
    clusters: KubernetesCalls

    def placement(self, request_id: int = 1, *, epoch: int = 1, node: str = "c1-n1", work_s: float = 60.0) -> Placement:
        """A BE request about to become a pod."""
        return Placement(
            run_id=1,
            request_id=request_id,
            epoch=epoch,
            cluster="c1",
            node=node,
            service="batch",
            pod=f"be-r1-{request_id}-e{epoch}",
            cpu_work_s=work_s,
            cpu_request_millicores=100,
            cpu_limit_millicores=2000,
            memory_mib=16,
        )

    def instance(self) -> Json:
        """A ready LC instance on c1-n1."""
        made = self.cluster.call("POST", PODS, lc_instance(WEB, NodeKey("c1", "c1-n1"), 0))
        name = made["metadata"]["name"]
        self.cluster.call("POST", f"{PODS}/{name}/binding", binding(name, made["metadata"]["uid"], "c1-n1"))

        def ready() -> Json | None:
            pod = self.cluster.call("GET", f"{PODS}/{name}")
            return pod if (pod["status"].get("containerStatuses") or [{}])[0].get("ready") else None

        return until(ready)

    def resize(self, pod: str, limit: int, *, request: int = 100) -> Resize:
        """A resize of an instance from its declared size."""
        return Resize(
            cluster="c1",
            node="c1-n1",
            pod=pod,
            service="web",
            cpu_limit_before_millicores=WEB.cpu_limit_millicores,
            cpu_limit_after_millicores=limit,
            cpu_request_after_millicores=request,
            slack=0.1,
            reason="grow",
        )


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """One server and kubelet for the module; each test finds it empty."""
    folder = tmp_path_factory.mktemp("c1")
    (folder / "fleet.yaml").write_text(dump_fleet(FLEET))
    cluster = EmbeddedCluster(folder)
    try:
        cluster.start()
        cluster.new_namespace()
        cluster.start_kubelet(folder / "fleet.yaml")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def site(embedded: EmbeddedCluster) -> Iterator[Site]:
    """Calls to the empty cluster."""
    site = Site(embedded, new_clusters(embedded))
    yield site
    site.clusters.close()
    embedded.clear()


def new_clusters(
    cluster: EmbeddedCluster, *, namespace: str = "tango", user: str = "tango", services: Sequence[Service] = SERVICES
) -> KubernetesCalls:
    """Calls that know this one cluster."""

    def credentials(name: str) -> tuple[str, str]:
        if name != cluster.name:
            raise UsageError(f"no cluster {name!r}")
        return str(cluster.kubeconfig), user

    return KubernetesCalls(credentials, lambda: services, replace(FAST, namespace=namespace))


# ---- BE pods ---------------------------------------------------------------------------------------------------------------


def test_a_placement_becomes_a_pod_that_runs_on_its_node(site: Site) -> None:
    """Created, bound, labelled with run, request and epoch, with its service's image."""
    placement = site.placement(node="c1-n2")
    assert site.clusters.run_be_pods([placement]) == {placement: None}
    pod = site.cluster.running(placement.pod)
    assert pod["spec"]["nodeName"] == "c1-n2"
    assert pod["spec"]["containers"][0]["image"] == KubeSettings().workload_image
    assert {k: pod["metadata"]["labels"][f"tango/{k}"] for k in ("run", "request", "epoch")} == {
        "run": "1",
        "request": "1",
        "epoch": "1",
    }


def test_the_image_follows_the_service_as_it_is_declared_now(embedded: EmbeddedCluster, site: Site) -> None:
    """A service declared, or changed, after the calls were made is looked up again."""
    declared = [replace(BATCH, image="registry.example/batch:1")]
    clusters = KubernetesCalls(
        lambda cluster: (str(embedded.kubeconfig), "tango"),
        lambda: declared,
        FAST,
    )
    clusters.run_be_pods([site.placement(1)])
    declared.append(replace(BATCH, name="new", image="registry.example/new:2"))
    late = replace(site.placement(2), service="new")
    assert clusters.run_be_pods([late]) == {late: None}
    unknown = replace(site.placement(3), service="withdrawn")
    failure = clusters.run_be_pods([unknown])[unknown]
    clusters.close()
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in embedded.pods().items()}
    assert images == {"be-r1-1-e1": "registry.example/batch:1", "be-r1-2-e1": "registry.example/new:2"}
    assert isinstance(failure, Invalid)
    assert "withdrawn" in str(failure)


def test_a_repeat_meets_its_own_pod(site: Site) -> None:
    """The second call makes nothing and succeeds: same name, same labels, same node, same uid."""
    placement = site.placement()
    site.clusters.run_be_pods([placement])
    uid = site.cluster.call("GET", f"{PODS}/{placement.pod}")["metadata"]["uid"]
    assert site.clusters.run_be_pods([placement]) == {placement: None}
    assert {p["metadata"]["uid"] for p in site.cluster.pods().values()} == {uid}


def test_a_repeat_binds_what_an_earlier_call_only_created(site: Site) -> None:
    """A scheduler that died between create and bind leaves a pod that the repeat binds."""
    site.cluster.faults({"fault": "drop", "path": "/binding"})
    placement = site.placement()
    failure = site.clusters.run_be_pods([placement])[placement]
    assert isinstance(failure, ClusterUnavailable)
    assert "nodeName" not in site.cluster.call("GET", f"{PODS}/{placement.pod}")["spec"]
    site.cluster.faults()
    assert site.clusters.run_be_pods([placement]) == {placement: None}
    site.cluster.running(placement.pod)


def test_older_epochs_are_gone_before_the_new_one_is_made(site: Site) -> None:
    """A request never has two pods in a cluster, however many attempts lie between."""
    for epoch in (1, 2, 4):
        site.cluster.call("POST", PODS, _manifest(site.placement(epoch=epoch)))
    placement = site.placement(epoch=5)
    assert site.clusters.run_be_pods([placement]) == {placement: None}
    assert set(site.cluster.pods()) == {placement.pod}


def test_an_older_epoch_that_runs_has_been_ended_by_its_kubelet_before_the_new_one_is_made(site: Site) -> None:
    """One that is deleted at once is gone for the API server alone: its container may run on beside the next."""
    older, newer = site.placement(epoch=1), site.placement(epoch=2, node="c1-n2")
    site.clusters.run_be_pods([older])
    site.cluster.running(older.pod)
    since = site.cluster.call("GET", PODS)["metadata"]["resourceVersion"]

    made = site.clusters.run_be_pods([newer])

    events = site.cluster.history(PODS, since=since)
    kinds = [(event["type"], event["object"]["metadata"]["name"]) for event in events]
    [gone] = [event["object"] for event in events if event["type"] == "DELETED"]
    assert made == {newer: None}
    assert kinds.index(("DELETED", older.pod)) < kinds.index(("ADDED", newer.pod))
    assert "terminated" in gone["status"]["containerStatuses"][0]["state"]


def test_older_epochs_of_other_clusters_are_gone_before_the_new_one_is_made(embedded: EmbeddedCluster, site: Site) -> None:
    """A lease may have run out while its pod runs on in the cluster that it was placed in first."""
    names = {"c1": str(embedded.kubeconfig), "elsewhere": str(embedded.kubeconfig)}
    clusters = KubernetesCalls(lambda name: (names[name], "tango"), lambda: SERVICES, FAST)
    site.cluster.call("POST", PODS, _manifest(site.placement(epoch=1)))
    placement = replace(site.placement(epoch=2), older=(("elsewhere", ""),))

    found = clusters.run_be_pods([placement])

    clusters.close()
    assert found == {placement: None}
    assert set(site.cluster.pods()) == {placement.pod}


TEAM_A = "/api/v1/namespaces/team-a/pods"
ROLE_OF_SERVICES = Path(__file__).parents[2] / "deploy" / "rbac" / "service-namespace.yaml"


def test_a_service_s_namespace_is_used_once_its_owner_has_applied_the_role(site: Site) -> None:
    """Before, that is refused in a way that speaks of the service; then its pod is made, bound, evicted and deleted there.

    One of an older epoch, which was made in Tango's own namespace, is gone first.
    """
    with contextlib.suppress(urllib.error.HTTPError):
        site.cluster.new_namespace("team-a")
    services = [replace(BATCH, namespace="team-a")]
    clusters = new_clusters(site.cluster, services=services)
    site.cluster.call("POST", PODS, _manifest(site.placement(epoch=1)))
    placement = replace(site.placement(epoch=2), pod="team-a/be-r1-1-e2", older=(("c1", ""),))

    refused = clusters.run_be_pods([placement])[placement]
    site.cluster.apply(ROLE_OF_SERVICES, namespace="team-a")
    made = clusters.run_be_pods([placement])
    [pod] = site.cluster.call("GET", TEAM_A)["items"]
    again = replace(placement, epoch=3, pod="team-a/be-r1-1-e3", older=())
    one_of_them = clusters.run_be_pods([again])
    [after] = site.cluster.call("GET", TEAM_A)["items"]
    [evicted] = clusters.evict([_eviction(again)])
    clusters.delete_pods([PodKey("c1", again.pod)])

    clusters.close()
    assert isinstance(refused, ClusterError)
    assert (refused.refusal, refused.namespace) == ("permission", "team-a")
    assert (made, one_of_them) == ({placement: None}, {again: None})
    assert (pod["metadata"]["name"], pod["spec"]["nodeName"], site.cluster.pods()) == ("be-r1-1-e2", "c1-n1", {})
    assert (after["metadata"]["name"], evicted.outcome, evicted.pod) == ("be-r1-1-e3", "done", again.pod)
    assert until(lambda: site.cluster.call("GET", TEAM_A)["items"] == [])


def test_no_pod_is_made_while_an_older_one_may_run_where_nobody_answers(
    embedded: EmbeddedCluster, site: Site, tmp_path: Path
) -> None:
    """The request waits, at the cost of no attempt, and what does not answer is paused and not the cluster that was chosen."""
    away = tmp_path / "away"
    away.write_text(re.sub(r"(https?://[^:]+):[0-9]+", r"\1:9", embedded.kubeconfig.read_text()))
    names = {"c1": str(embedded.kubeconfig), "away": str(away)}
    clusters = KubernetesCalls(lambda name: (names[name], "tango"), lambda: SERVICES, FAST)
    placement = replace(site.placement(epoch=2), older=(("away", ""),))

    failure = clusters.run_be_pods([placement])[placement]

    clusters.close()
    assert isinstance(failure, ClusterError)
    assert (failure.refusal, failure.cluster) == ("unreachable", "away")
    assert site.cluster.pods() == {}


def test_a_foreign_pod_of_that_name_is_a_conflict_and_stays(site: Site) -> None:
    """Somebody else's pod is neither bound nor deleted."""
    placement = site.placement()
    foreign = _manifest(placement)
    foreign["metadata"]["labels"]["tango/request"] = "77"
    site.cluster.call("POST", PODS, foreign)
    assert isinstance(site.clusters.run_be_pods([placement])[placement], Conflict)
    assert "nodeName" not in site.cluster.call("GET", f"{PODS}/{placement.pod}")["spec"]


def test_a_pod_bound_elsewhere_is_a_conflict(site: Site) -> None:
    """Same pod, another node: not what was asked, so not success."""
    site.clusters.run_be_pods([site.placement(node="c1-n1")])
    other = site.placement(node="c1-n2")
    assert isinstance(site.clusters.run_be_pods([other])[other], Conflict)


def test_a_missing_namespace_is_told_as_not_found(embedded: EmbeddedCluster, site: Site) -> None:
    """The refusal is certain, so that the placement can be sent back at once."""
    clusters = new_clusters(embedded, namespace="nowhere", user="root")
    placement = site.placement()
    failure = clusters.run_be_pods([placement])[placement]
    clusters.close()
    assert isinstance(failure, NotFound)


def test_each_call_of_a_batch_fails_for_itself(site: Site) -> None:
    """An unknown cluster and a refused pod take nothing from their neighbours."""
    good, lost = site.placement(1), replace(site.placement(2), cluster="c9")
    wrong = replace(site.placement(3), pod="Not_A_Name-e1")
    found = site.clusters.run_be_pods([good, lost, wrong])
    assert found[good] is None
    assert isinstance(found[lost], UsageError)
    assert isinstance(found[wrong], Invalid)
    site.cluster.running(good.pod)


def test_a_role_that_may_do_nothing_is_forbidden(embedded: EmbeddedCluster, site: Site) -> None:
    """403 is not repeated and names the verb that lacks."""
    clusters = new_clusters(embedded, user="nobody")
    placement = site.placement()
    failure = clusters.run_be_pods([placement])[placement]
    clusters.close()
    assert isinstance(failure, Forbidden)
    assert "cannot create resource" in str(failure)


@pytest.mark.parametrize("fault", ["429", "500", "drop"])
def test_passing_faults_are_repeated_until_they_pass(site: Site, fault: str) -> None:
    """Two refusals or lost connections cost time, not the placement."""
    site.cluster.faults({"fault": fault, "verb": "create", "path": "/namespaces/tango/pods", "count": 2})
    placement = site.placement()
    assert site.clusters.run_be_pods([placement]) == {placement: None}
    site.cluster.running(placement.pod)


def test_faults_that_stay_end_the_repeats(site: Site) -> None:
    """After the attempts a 429 is Throttled and a 500 ClusterUnavailable; nothing was made."""
    first, second = site.placement(1), site.placement(2)
    site.cluster.faults({"fault": "429", "verb": "create", "path": "/namespaces/tango/pods"})
    assert isinstance(site.clusters.run_be_pods([first])[first], Throttled)
    site.cluster.faults({"fault": "500", "verb": "create", "path": "/namespaces/tango/pods"})
    assert isinstance(site.clusters.run_be_pods([second])[second], ClusterUnavailable)
    assert site.cluster.pods() == {}


def test_a_server_that_keeps_silent_costs_a_bounded_time(site: Site) -> None:
    """Every attempt has its timeout, and the attempts are counted."""
    site.cluster.faults({"fault": "latency", "verb": "create", "path": "/namespaces/tango/pods", "seconds": SILENT_S})
    placement = site.placement()
    begin_s = time.monotonic()
    failure = site.clusters.run_be_pods([placement])[placement]
    assert isinstance(failure, ClusterUnavailable)
    assert "3 attempts" in str(failure)
    assert time.monotonic() - begin_s < SILENT_S


# ---- instances -------------------------------------------------------------------------------------------------------------


def test_a_resize_is_done_in_place(site: Site) -> None:
    """Limit and request in effect, same pod, no restart, and the record says how long it took."""
    before = site.instance()
    name = before["metadata"]["name"]
    record = site.clusters.resize([site.resize(name, 1800, request=300)])[0]
    after = site.cluster.call("GET", f"{PODS}/{name}")
    status = after["status"]["containerStatuses"][0]
    assert (record.outcome, record.before_millicores, record.after_millicores) == ("done", 1000, 1800)
    assert record.actuation_ms is not None
    assert record.actuation_ms >= FLEET.actuation_delay_s * 1e3
    assert status["resources"]["limits"]["cpu"] == "1800m"
    assert status["resources"]["requests"]["cpu"] == "300m"
    assert (after["metadata"]["uid"], status["restartCount"]) == (before["metadata"]["uid"], 0)


def test_a_resize_without_space_now_is_deferred(site: Site) -> None:
    """What the node may grant later is neither done nor infeasible."""
    name = site.instance()["metadata"]["name"]
    filler = replace(site.placement(), cpu_request_millicores=3500, cpu_limit_millicores=4000)
    site.clusters.run_be_pods([filler])
    site.cluster.running(filler.pod)
    assert site.clusters.resize([site.resize(name, 2000, request=1500)])[0].outcome == "deferred"


def test_a_resize_that_no_node_can_hold_is_infeasible(site: Site) -> None:
    """Refused by the server or the kubelet: never to be asked again; and a later feasible one is not mistaken for it."""
    name = site.instance()["metadata"]["name"]
    assert site.clusters.resize([site.resize(name, 900_000, request=800_000)])[0].outcome == "infeasible"
    assert site.clusters.resize([site.resize(name, 1500)])[0].outcome == "done"


def test_resizing_what_is_not_there_is_an_error_record(site: Site) -> None:
    """A pod that went, or an unknown cluster: one record each, no exception."""
    gone, lost = site.resize("lc-web-c1-n1-9", 1500), replace(site.resize("lc-web-c1-n1-9", 1500), cluster="c9")
    assert [record.outcome for record in site.clusters.resize([gone, lost])] == ["error", "error"]


# ---- evictions and deletions -----------------------------------------------------------------------------------------------


def test_an_evicted_pod_ends_and_goes(site: Site) -> None:
    """Through the eviction subresource, with its grace."""
    placement = site.placement()
    site.clusters.run_be_pods([placement])
    site.cluster.running(placement.pod)
    record = site.clusters.evict([_eviction(placement)])[0]
    assert (record.kind, record.outcome, record.reason) == ("evict", "done", "evicted")
    until(lambda: site.cluster.pod(placement.pod) is None)


def test_a_refused_budget_is_deferred_and_the_pod_stays(site: Site) -> None:
    """429 with the cause DisruptionBudget is an answer, not an overload: it is not repeated."""
    placement = site.placement()
    site.clusters.run_be_pods([placement])
    site.cluster.running(placement.pod)
    budget = {"metadata": {"name": "all"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"tango/class": "be"}}}}
    site.cluster.call("POST", "/apis/policy/v1/namespaces/tango/poddisruptionbudgets", budget)
    assert site.clusters.evict([_eviction(placement)])[0].outcome == "deferred"
    assert "deletionTimestamp" not in site.cluster.running(placement.pod)["metadata"]


def test_evicting_or_deleting_what_is_gone_counts_as_done(site: Site) -> None:
    """What was asked for holds already."""
    placement = site.placement()
    assert site.clusters.evict([_eviction(placement)])[0].outcome == "done"
    site.clusters.delete_pods([PodKey("c1", placement.pod)])


def test_deleted_pods_are_gone_at_once(site: Site) -> None:
    """Grace 0: nobody waits for the kubelet."""
    placements = [site.placement(k) for k in range(1, 6)]
    site.clusters.run_be_pods(placements)
    site.clusters.delete_pods([PodKey("c1", p.pod) for p in placements] + [PodKey("c9", "be-r1-1-e1")])
    assert site.cluster.pods() == {}


# ---- adopted pods ----------------------------------------------------------------------------------------------------------


THEIRS = replace(WEB, name="theirs", adopt=Adoption(namespace="prod", selector="app=api", resize=True))


@pytest.fixture
def prod(site: Site) -> Iterator[Callable[..., str]]:
    """Makes pods of somebody else in the namespace `prod`, bound to c1-n1, running by their status; gives their names."""
    pods = "/api/v1/namespaces/prod/pods"
    with contextlib.suppress(urllib.error.HTTPError):
        site.cluster.new_namespace("prod")
    made: list[str] = []

    def make(**container: Any) -> str:
        name = f"api-{len(made)}"
        resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
        spec = {"nodeName": "c1-n1", "containers": [{"name": "web", "image": "api:1", "resources": resources, **container}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "api"}}, "spec": spec}
        site.cluster.call("POST", pods, body)
        status = {"phase": "Running", "containerStatuses": [{"name": "web", "ready": True, "resources": resources}]}
        site.cluster.call("PATCH", f"{pods}/{name}/status", {"status": status})
        made.append(name)
        return f"prod/{name}"

    yield make
    for name in made:
        site.cluster.call("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})


def test_an_adopted_pod_is_resized_where_its_owner_left_it_to_tango(site: Site, prod: Callable[..., str]) -> None:
    """In its own namespace; what would restart its container, or a pod that may not be resized, is not tried."""
    clusters = new_clusters(site.cluster, services=(*SERVICES, THEIRS))
    restarts = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    pods = [prod(), prod(resizePolicy=restarts), prod(resources={})]

    records = clusters.resize([replace(site.resize(pod, 1500, request=200), service="theirs") for pod in pods])
    clusters.close()

    assert records[0].outcome in ("done", "deferred")  # by the kubelet, in its own time
    assert [r.outcome for r in records[1:]] == ["infeasible", "infeasible"]
    assert "resizePolicy" in records[1].reason
    limits = [
        site.cluster.call("GET", f"/api/v1/namespaces/prod/pods/{pod.split('/')[1]}")["spec"]["containers"][0]["resources"].get(
            "limits"
        )
        for pod in pods
    ]
    assert [(found or {}).get("cpu") for found in limits] == ["1500m", "1", None]


def test_an_adopted_pod_is_left_as_it_is_unless_its_service_says_otherwise(site: Site, prod: Callable[..., str]) -> None:
    """`resize: false` holds here too, whatever asks."""
    kept = replace(THEIRS, adopt=Adoption(namespace="prod", selector="app=api"))
    clusters = new_clusters(site.cluster, services=(*SERVICES, kept))

    (record,) = clusters.resize([replace(site.resize(prod(), 1500), service="theirs")])
    clusters.close()

    assert record.outcome == "infeasible"


def _manifest(placement: Placement) -> Json:
    return be_pod(placement, BATCH)


def _eviction(placement: Placement) -> Eviction:
    return Eviction(
        cluster=placement.cluster,
        node=placement.node,
        pod=placement.pod,
        run_id=1,
        request_id=placement.request_id,
        epoch=placement.epoch,
        work_lost_s=0.0,
    )


# ---- a server that goes away -----------------------------------------------------------------------------------------------


def test_a_killed_server_is_unavailable_and_is_found_again(tmp_path: Path) -> None:
    """Down: ClusterUnavailable within the repeats. Back on its port: the same clusters goes on, and what was acknowledged is there."""
    cluster = EmbeddedCluster(tmp_path)
    try:
        cluster.start()
        cluster.new_namespace()
        site = Site(cluster, new_clusters(cluster))
        kept, late = site.placement(1), site.placement(2)
        assert site.clusters.run_be_pods([kept]) == {kept: None}
        cluster.kill("server")
        with pytest.raises(urllib.error.URLError):
            cluster.call("GET", "/version")
        assert isinstance(site.clusters.run_be_pods([late])[late], ClusterUnavailable)
        assert site.clusters.resize([site.resize("lc-web-c1-n1-0", 1500)])[0].outcome == "error"
        assert site.clusters.evict([_eviction(kept)])[0].outcome == "error"
        cluster.start()
        assert site.clusters.run_be_pods([kept, late]) == {kept: None, late: None}
        assert {name: pod["spec"]["nodeName"] for name, pod in cluster.pods().items()} == {kept.pod: "c1-n1", late.pod: "c1-n1"}
        site.clusters.close()
    finally:
        cluster.stop()
