"""The informer against an embedded API server that is killed, cuts watches and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tango.kube.api_client import KubeClient
from tango.kube.informer import Informer
from tango.settings import KubeSettings
from tests.integration.kube_cluster import PODS, EmbeddedCluster, Json
from tests.waiting import WITHIN_S

SETTINGS = KubeSettings(connect_timeout_s=0.5, read_timeout_s=2.0, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.05)


@dataclass(slots=True)
class Followed:
    """A running informer of Tango's pods, with what it told."""

    cluster: EmbeddedCluster
    informer: Informer
    events: list[tuple[str, str]] = field(default_factory=list)
    """(type, pod), in order."""

    @property
    def comings_and_goings(self) -> list[tuple[str, str]]:
        """Events without the changes in between: a deletion first marks the pod."""
        return [event for event in self.events if event[0] != "MODIFIED"]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fails when it does not in time."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                await asyncio.sleep(0.02)

    async def until_known(self, *names: str) -> None:
        """Wait until exactly these pods are known."""
        await self.until(lambda: set(self.informer.objects) == set(names))

    def create(self, *names: str) -> None:
        """Make pods."""
        for name in names:
            container = {"name": "work", "image": "none"}
            self.cluster.call("POST", PODS, {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"containers": [container]}})

    def delete(self, *names: str) -> None:
        """Delete pods at once."""
        for name in names:
            self.cluster.call("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A server without nodes: pods stay as they were made."""
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("c1"))
    try:
        cluster.start()
        cluster.new_namespace()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def followed(embedded: EmbeddedCluster) -> AsyncIterator[Followed]:
    """A synced informer on an empty collection."""
    async with await KubeClient.from_kubeconfig(str(embedded.kubeconfig), "tango", SETTINGS) as client:
        events: list[tuple[str, str]] = []
        informer = Informer(
            client, PODS, on_event=lambda kind, pod: events.append((kind, pod["metadata"]["name"])), labelSelector="a=b"
        )
        running = asyncio.create_task(informer.run())
        await informer.synced()
        yield Followed(embedded, informer, events)
        running.cancel()
    embedded.clear()


async def test_changes_arrive_in_order_and_only_those_selected(followed: Followed) -> None:
    """One event a change; objects are as last told."""
    followed.create("one")
    other: Json = {"metadata": {"name": "other"}, "spec": {"containers": [{"name": "work", "image": "none"}]}}
    followed.cluster.call("POST", PODS, other)
    followed.cluster.call("PATCH", f"{PODS}/one", {"metadata": {"labels": {"c": "d"}}})
    await followed.until(lambda: len(followed.events) >= 2)
    assert followed.informer.objects["one"]["metadata"]["labels"] == {"a": "b", "c": "d"}
    followed.delete("one")
    await followed.until(lambda: ("DELETED", "one") in followed.events)
    kinds = [kind for kind, _ in followed.events]
    assert kinds == ["ADDED", *["MODIFIED"] * (len(kinds) - 2), "DELETED"]
    assert followed.informer.objects == {}


async def test_a_cut_watch_goes_on_where_it_was(followed: Followed) -> None:
    """No relist: a pod made and deleted while nobody watched is told in full."""
    followed.create("before")
    await followed.until_known("before")
    followed.cluster.faults({"fault": "cut-watches"}, {"fault": "500", "verb": "watch", "count": 6})
    followed.create("short", "kept")
    followed.delete("short")
    await followed.until(lambda: ("ADDED", "kept") in followed.events and ("DELETED", "short") in followed.events)
    assert followed.comings_and_goings == [("ADDED", "before"), ("ADDED", "short"), ("ADDED", "kept"), ("DELETED", "short")]
    assert followed.informer.relists == 1


async def test_a_version_out_of_history_is_listed_again(followed: Followed) -> None:
    """A server that was killed knows no history: after 410 what went is told as deleted and what came as added, once each."""
    followed.create("kept", "goes")
    await followed.until_known("kept", "goes")
    followed.cluster.faults({"fault": "500", "verb": "watch"}, {"fault": "cut-watches"})
    followed.delete("goes")
    followed.create("comes")
    followed.cluster.kill("server")
    followed.cluster.start()
    await followed.until_known("kept", "comes")
    followed.create("later")
    await followed.until_known("kept", "comes", "later")
    assert sorted(followed.comings_and_goings) == [
        ("ADDED", "comes"),
        ("ADDED", "goes"),
        ("ADDED", "kept"),
        ("ADDED", "later"),
        ("DELETED", "goes"),
    ]
    assert followed.informer.relists >= 2


async def test_a_recreated_object_is_told_as_gone_and_new(followed: Followed) -> None:
    """Same name, other uid, seen only by a relist: the old one has ended."""
    followed.create("same")
    await followed.until_known("same")
    first = followed.informer.objects["same"]["metadata"]["uid"]
    followed.cluster.faults({"fault": "500", "verb": "watch"}, {"fault": "cut-watches"})
    followed.delete("same")
    followed.create("same")
    followed.cluster.kill("server")
    followed.cluster.start()
    await followed.until(lambda: followed.informer.objects.get("same", {"metadata": {"uid": first}})["metadata"]["uid"] != first)
    assert followed.events == [("ADDED", "same"), ("DELETED", "same"), ("ADDED", "same")]
    assert followed.informer.relists >= 2


async def test_a_server_that_comes_back_unchanged_tells_nothing_twice(followed: Followed) -> None:
    """SIGKILL loses nothing that was acknowledged, and what is known already is no event."""
    followed.create("kept")
    await followed.until_known("kept")
    followed.cluster.kill("server")
    followed.cluster.start()
    followed.create("later")
    await followed.until_known("kept", "later")
    assert followed.events == [("ADDED", "kept"), ("ADDED", "later")]


async def test_a_bookmark_moves_the_version_on(followed: Followed) -> None:
    """A quiet collection keeps up with the server, so that its next watch is not out of history."""
    before = int(followed.informer.version)
    for k in range(3):
        other: Json = {"metadata": {"name": f"unselected-{k}"}, "spec": {"containers": [{"name": "work", "image": "none"}]}}
        followed.cluster.call("POST", PODS, other)
    await followed.until(lambda: int(followed.informer.version) >= before + 3)
    assert followed.events == []
