"""`ClusterWatch`, on the fake and on an embedded API server: what an agent sees of a cluster, and what its writes do."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tango.domain.identity import NodeKey
from tango.domain.quantities import cpu_millicores, memory_mib
from tango.domain.refusal_kind import RefusalKind
from tango.domain.services import Adoption
from tango.errors import Forbidden
from tango.kube.api_client import KubeClient
from tango.kube.cluster_watch import KubernetesWatch
from tango.ports.clusters import ClusterWatch
from tango.settings import KubeSettings
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.store_world import WEB
from tests.integration.kube_cluster import PODS, EmbeddedCluster, Json
from tests.waiting import WITHIN_S

N1 = NodeKey("c1", "n1")
NODE: Json = {"metadata": {"name": "n1"}, "spec": {}}
INSTANCE = "lc-web-n1-0"
ROLE_OF_SERVICES = Path(__file__).parents[2] / "deploy" / "rbac" / "service-namespace.yaml"


@dataclass(slots=True)
class Watched:
    """A cluster with one node, which an agent follows."""

    watch: ClusterWatch
    create: Callable[[Json], object]
    """Somebody else makes a pod."""
    remove: Callable[[str], object]
    """Somebody else deletes one at once."""
    allow: Callable[[], object]
    """The owner of the namespace `prod` lets Tango work there."""
    refuse: Callable[[bool], object]
    """From now on Tango may not watch there, or may again."""
    events: list[tuple[str, str]] = field(default_factory=list)

    def pod(self, name: str) -> Mapping[str, Any] | None:
        """As the watch has it."""
        return next((pod for pod in self.watch.pods() if pod["metadata"]["name"] == name), None)

    def bound_to(self, name: str) -> str | None:
        """The pod's node."""
        pod = self.pod(name)
        return None if pod is None else pod["spec"].get("nodeName")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fails when it does not in time."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A server with one node whose kubelet is away: pods stay as they were made."""
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("c1"))
    try:
        cluster.start()
        cluster.call("POST", "/api/v1/nodes", NODE)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["memory", "kubernetes"])
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    """One implementation after the other, followed."""
    if request.param == "memory":
        memory = MemoryCluster()
        memory.put_node(NODE)

        def refuse(now: bool) -> None:
            words = 'pods is forbidden: User "tango" cannot list resource "pods" in API group "" in the namespace "prod"'
            memory.refused = (
                {"prod": Forbidden(words, status=403, refusal=RefusalKind.PERMISSION, words=words, namespace="prod")} if now else {}
            )

        async with followed(Watched(memory, memory.put_pod, memory.remove_pod, lambda: None, refuse)) as found:
            yield found
        return
    server: EmbeddedCluster = request.getfixturevalue("embedded")
    settings = KubeSettings(connect_timeout_s=0.5, read_timeout_s=2.0, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.05)
    async with await KubeClient.from_kubeconfig(str(server.kubeconfig), "tango", settings, cluster="c1") as client:
        found = Watched(
            KubernetesWatch(client, namespace="tango"),
            lambda pod: server.call("POST", PODS.replace("tango", pod["metadata"].get("namespace", "tango")), pod),
            lambda name: server.call("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0"),
            lambda: server.apply(ROLE_OF_SERVICES, namespace="prod"),
            lambda now: server.faults(*([{"fault": "rbac", "path": "/namespaces/prod/", "user": "tango"}] if now else [])),
        )
        with contextlib.suppress(urllib.error.HTTPError):  # there since an earlier test
            server.new_namespace("prod")
        async with followed(found):
            yield found
    server.clear()
    for pod in server.call("GET", "/api/v1/namespaces/prod/pods")["items"]:
        server.call("DELETE", f"/api/v1/namespaces/prod/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})


@asynccontextmanager
async def followed(watched: Watched) -> AsyncIterator[Watched]:
    """Follow for the length of a block, in which everything has been listed."""
    following = watched.watch.follow(lambda kind, pod: watched.events.append((kind, pod["metadata"]["name"])))
    task = asyncio.create_task(following)
    await asyncio.sleep(0)
    async with asyncio.timeout(WITHIN_S):
        await watched.watch.synced()
    yield watched
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def by_hand(name: str) -> Json:
    """A pod that carries Tango's label."""
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "tango", "tango/class": "be"}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "work", "image": "none"}]}}


async def test_every_change_is_counted_and_nothing_else(watched: Watched) -> None:
    """While the count stays, an agent needs not read nodes and pods again."""
    at_rest = watched.watch.changes(), watched.watch.changes()
    watched.create(by_hand("one"))
    await watched.until(lambda: watched.pod("one") is not None)
    with_one = watched.watch.changes()
    watched.remove("one")
    await watched.until(lambda: watched.pod("one") is None)

    assert at_rest[0] == at_rest[1] < with_one < watched.watch.changes()


async def test_nodes_and_pods_are_seen_as_they_come_and_go(watched: Watched) -> None:
    """A pod is told when it comes and when it goes; without a metrics server no usage is known, and that is no error."""
    watched.create(by_hand("one"))
    await watched.until(lambda: watched.pod("one") is not None)
    watched.remove("one")
    await watched.until(lambda: ("DELETED", "one") in watched.events)

    assert [node["metadata"]["name"] for node in watched.watch.nodes()] == ["n1"]
    assert watched.events[0] == ("ADDED", "one")
    assert watched.pod("one") is None
    assert await watched.watch.node_usage() == {}


async def test_an_instance_is_made_once_and_bound_to_its_node(watched: Watched) -> None:
    """It carries its cluster, class and service; making it again leaves the one that is there."""
    await watched.watch.create_instance(WEB, N1, 0)
    await watched.until(lambda: watched.bound_to(INSTANCE) == "n1")
    made = watched.pod(INSTANCE)
    await watched.watch.create_instance(WEB, N1, 0)

    assert made is not None
    labels = made["metadata"]["labels"]
    assert {name: labels[f"tango/{name}"] for name in ("cluster", "class", "service")} == {
        "cluster": "c1",
        "class": "lc",
        "service": "web",
    }
    assert [pod["metadata"]["uid"] for pod in watched.watch.pods()] == [made["metadata"]["uid"]]


async def test_a_cpu_limit_is_moved_alone_and_that_of_a_pod_that_is_gone_is_no_error(watched: Watched) -> None:
    """The request stays, and so does the memory."""
    boosted = replace(WEB, startup_cpu_limit_millicores=3000)

    def resources() -> tuple[float, float, int]:
        pod = watched.pod(INSTANCE)
        assert pod is not None
        found = pod["spec"]["containers"][0]["resources"]
        cpu = cpu_millicores(found["limits"]["cpu"]), cpu_millicores(found["requests"]["cpu"])
        return *cpu, memory_mib(found["limits"]["memory"])

    await watched.watch.create_instance(boosted, N1, 0)
    await watched.until(lambda: watched.bound_to(INSTANCE) == "n1")
    made = resources()
    await watched.watch.set_cpu_limit(INSTANCE, "work", 1000)
    await watched.until(lambda: resources() != made)
    await watched.watch.set_cpu_limit("nobody", "work", 1000)

    assert made[:2] == (3000, 100)
    assert resources() == (1000, 100, made[2])


async def test_binding_a_pod_that_is_bound_or_gone_changes_nothing(watched: Watched) -> None:
    """Two agents, or one that was killed between two calls, may both try."""
    watched.create(by_hand("one"))
    await watched.until(lambda: watched.pod("one") is not None)
    pod = watched.pod("one")
    assert pod is not None

    await watched.watch.bind(pod, "n1")
    await watched.until(lambda: watched.bound_to("one") == "n1")
    await watched.watch.bind(pod, "n2")
    watched.remove("one")
    await watched.until(lambda: watched.pod("one") is None)
    await watched.watch.bind(pod, "n1")

    assert watched.pod("one") is None


async def test_only_the_very_pod_is_deleted_and_gone_counts_as_deleted(watched: Watched) -> None:
    """By uid, a later pod of the same name stays; deleting twice is no error."""
    watched.create(by_hand("one"))
    await watched.until(lambda: watched.pod("one") is not None)
    pod = watched.pod("one")
    assert pod is not None

    await watched.watch.delete_pod("one", uid="of an earlier one", at_once=True)
    stayed = watched.pod("one")
    await watched.watch.delete_pod("one", uid=pod["metadata"]["uid"], at_once=True)
    await watched.until(lambda: watched.pod("one") is None)
    await watched.watch.delete_pod("one", at_once=True)

    assert stayed == pod


def theirs(name: str, app: str) -> Json:
    """A pod of somebody else's in the namespace `prod`."""
    metadata = {"name": name, "namespace": "prod", "labels": {"app": app}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "web", "image": "none"}]}}


async def test_adopted_pods_are_seen_by_their_service_and_not_among_tango_s(watched: Watched) -> None:
    """Those of the namespace that the selector selects; a change of them counts; withdrawn, none is seen."""

    def names(service: str) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in watched.watch.adopted().get(service, ()))

    watched.create(theirs("a1", "api"))
    watched.create(theirs("b1", "other"))
    before = watched.watch.changes()
    watched.watch.adopt({"mine": Adoption(namespace="prod", selector="app=api")})
    await watched.until(lambda: names("mine") == ["a1"])
    assert watched.watch.changes() > before

    watched.create(theirs("a2", "api"))
    await watched.until(lambda: names("mine") == ["a1", "a2"])
    assert watched.pod("a1") is None

    before = watched.watch.changes()
    watched.watch.adopt({})
    assert names("mine") == []
    assert watched.watch.changes() > before


def elsewhere(name: str) -> Json:
    """A pod of Tango's in the namespace `prod`, whoever has made it."""
    pod = by_hand(name)
    return {**pod, "metadata": {**pod["metadata"], "namespace": "prod"}}


async def test_pods_of_a_namespace_are_tango_s_once_it_is_watched_and_go_by_their_name_in_the_fleet(watched: Watched) -> None:
    """A pod of the same name in Tango's own namespace is another one; each is deleted where it is."""

    def names() -> list[str]:
        return sorted(watched.watch.name_of(pod) for pod in watched.watch.pods())

    watched.allow()
    watched.create(by_hand("one"))
    watched.create(elsewhere("one"))
    await watched.until(lambda: names() == ["one"])
    before = watched.watch.changes()
    watched.watch.watch_namespaces({"prod"})
    await watched.until(lambda: names() == ["one", "prod/one"])
    watched.watch.watch_namespaces(())
    await watched.watch.synced()
    assert watched.watch.changes() > before
    assert watched.watch.unseen() == {}
    await watched.until(lambda: watched.watch.age_s("prod") < 1.0)

    await watched.watch.delete_pod("prod/one", at_once=True)
    await watched.until(lambda: names() == ["one"])
    assert watched.events.count(("DELETED", "one")) == 1


async def test_an_instance_of_a_service_with_a_namespace_is_made_bound_and_resized_there(watched: Watched) -> None:
    """Where its owner allows it."""
    watched.allow()
    watched.watch.watch_namespaces({"prod"})
    await watched.watch.synced()

    await watched.watch.create_instance(replace(WEB, namespace="prod"), N1, 0)
    await watched.until(lambda: watched.bound_to(INSTANCE) == "n1")
    made = watched.pod(INSTANCE)
    assert made is not None
    await watched.watch.set_cpu_limit(f"prod/{INSTANCE}", "work", 1234)
    await watched.until(lambda: "1234m" in str(watched.pod(INSTANCE)))

    assert watched.watch.name_of(made) == f"prod/{INSTANCE}"
    assert made["metadata"]["annotations"] == {"tango/revision": replace(WEB, namespace="prod").revision}
    await watched.watch.delete_pod(f"prod/{INSTANCE}", at_once=True)
    await watched.until(lambda: watched.pod(INSTANCE) is None)


async def test_a_namespace_that_may_not_be_watched_is_unseen_with_the_server_s_words_until_it_may(watched: Watched) -> None:
    """The cluster's own picture does not grow old by it."""
    watched.refuse(True)
    watched.watch.watch_namespaces({"prod"})
    async with asyncio.timeout(WITHIN_S):
        await watched.watch.synced()
    await watched.until(lambda: watched.watch.unseen().get("prod") is not None)
    refused = watched.watch.unseen()["prod"]

    assert refused is not None
    assert (refused.refusal, refused.namespace, "prod" in refused.words) == ("permission", "prod", True)
    assert watched.watch.age_s("prod") > 3600.0
    await watched.until(lambda: watched.watch.age_s() < 1.0)
    watched.refuse(False)
    await watched.until(lambda: watched.watch.unseen() == {})


async def test_a_picture_is_new_while_its_watches_stand(watched: Watched) -> None:
    """However long nothing happens."""
    await watched.until(lambda: watched.watch.age_s() < 1.0)

    assert watched.watch.age_s() >= 0.0


async def test_pods_of_others_are_seen_in_all_namespaces_with_what_they_hold(watched: Watched) -> None:
    """Bound ones; Tango's own are not among them; a change that moves nothing is none."""

    def other(name: str, **spec: Any) -> Json:
        container = {"name": "app", "image": "none", "resources": {"requests": {"cpu": "300m"}}}
        return {"metadata": {"name": name, "namespace": "prod"}, "spec": {"nodeName": "n1", "containers": [container], **spec}}

    def seen() -> list[tuple[str, str]]:
        return sorted((p["metadata"]["name"], p["spec"]["nodeName"]) for p in watched.watch.others())

    watched.create(by_hand("own"))
    watched.create(other("theirs"))
    await watched.until(lambda: seen() == [("theirs", "n1")] and watched.pod("own") is not None)

    [found] = watched.watch.others()
    assert found["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "300m"}}
