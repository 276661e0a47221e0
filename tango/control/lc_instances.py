"""The agent's care for LC instances: their number as declared, and patience where the cluster does not take them.

What the cluster refuses (admission, quota, credentials) is told to the centre and tried again after a pause, one instance first. What ends
by itself, as by a kubelet that does not admit it, is made again once at once, and then with growing pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from tango.control.deploy_instances import Creation, behind_be, beyond_headroom, instance_name, outdated, plan_instances
from tango.control.observe_cluster import is_over, node_states, pod_class, standing
from tango.control.observe_jobs import crash, stuck
from tango.domain.backoff import Backoff
from tango.domain.identity import NodeKey, parts_of_pod
from tango.domain.node_selection import may_run
from tango.domain.pod_marks import SERVICE
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.services import Service
from tango.errors import ClusterError
from tango.ports.clusters import ClusterWatch
from tango.ports.refusals import RefusalStore

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]
ROLE = "agent"
"""Who has met a refusal, in the rows of `tango.domain.refusals`."""
STUCK_AFTER_S = 20.0
"""Seconds that an instance may wait for its image, between two starts, or for BE to give way, before that is told: pulls, restarts and the
grace of evicted pods take their time."""
LACKING_AGAIN_S = 120.0
"""Seconds after which the centre is told again of a node without room: well before it forgets a refusal (`RefusalSettings.forget_s`)."""
LONGEST_CLUSTER_PAUSE_S = 30.0
"""Longest pause, in seconds, after calls to a cluster that fail in a row: what is well again is noticed this soon. Chosen, not measured."""


class LcInstances:
    """LC instances of one cluster. `agree` is a step of the agent, complete in itself and safe to repeat."""

    def __init__(self, cluster: str, watch: ClusterWatch, refusals: RefusalStore, *, store_turn: asyncio.Lock) -> None:
        """Who holds `store_turn` writes to the centre."""
        self._cluster, self._watch, self._refusals, self._store_turn = cluster, watch, refusals, store_turn
        self._creates = Backoff(longest_s=LONGEST_CLUSTER_PAUSE_S)
        """When instances that were refused may be tried again: by service, by '' those of all services."""
        self._remakes = Backoff(longest_s=LONGEST_CLUSTER_PAUSE_S, free=1)
        """The same of instances that ended, by `service@node`."""
        self._told_lacking: dict[tuple[str, str], float] = {}
        """(service, node) without room for an instance, or where one does not start → when the centre was told."""
        self._stuck_since_s: dict[str, float] = {}
        self._crowded_since_s: dict[str, float] = {}
        """Instances that wait for BE to give way, by their names."""
        self.awaited: tuple[Creation, ...] = ()
        """Those that are to be made, as the last `agree` found: the cluster does not refuse them, and without BE their nodes have room."""
        self._ended: set[str] = set()
        """Uids of instances that have ended and are not gone: each counts once."""

    async def agree(self, services: Sequence[Service], now_s: float) -> bool:
        """Create missing instances, delete those that ended or are no longer declared; gives whether nothing is left to be done later.

        Those that wait for BE to give way are not made before it has.

        `now_s`: of the monotonic clock. Raises: the first failure to create an instance that is no refusal, after everything else was done.
        """
        lc, doubles = _each_once([pod for pod in self._watch.pods() if pod_class(pod) == "lc"], services, self._watch.name_of)
        over = {name: pod for name, pod in lc.items() if is_over(pod)}
        going = {name for name, pod in lc.items() if "deletionTimestamp" in pod["metadata"]}
        adopted, others = self._watch.adopted(), self._watch.others()
        nodes = node_states(self._watch.nodes(), self._watch.pods(), {}, services, adopted, others)
        names = {n.name for n in nodes}
        barred = {(s.name, node["metadata"]["name"]) for node in self._watch.nodes() for s in services if not may_run(s, node)}
        self._count_ends(lc.values(), now_s)
        open_nodes = {n.name for n in nodes if n.ready and n.schedulable}
        plan = plan_instances(services, open_nodes, names, lc.keys() - over.keys(), barred)
        for name in over.keys() - going:
            await self._delete(lc[name], at_once=True)
        for pod in doubles:
            if "deletionTimestamp" not in pod["metadata"]:
                await self._delete(pod)
        full = beyond_headroom(plan.create, nodes)
        # Where its owner does not let Tango see its pods, none is made: nobody would know of its end. `ServiceNamespaces` says so.
        unseen = self._watch.unseen()
        fitting = [creation for creation in plan.create if creation not in full and creation[0].namespace not in unseen]
        # What a kubelet would refuse because of BE is not made: the centre is told of it, and lets BE give way (`make_headroom`).
        crowded = behind_be(fitting, nodes)
        create = self._may_create([creation for creation in fitting if creation not in crowded], now_s)
        refusing = {
            service.name for service, _, _ in fitting if self._creates.has_failed("") or self._creates.has_failed(service.name)
        }
        self.awaited = tuple(creation for creation in fitting if creation[0].name not in refusing)
        made = await asyncio.gather(
            *(self._watch.create_instance(service, NodeKey(self._cluster, node), k) for service, node, k in create),
            return_exceptions=True,
        )
        for name in (*plan.remove, *outdated(services, [s for pod in lc.values() if (s := standing(pod)) is not None])):
            if name not in going:  # its kubelet takes the time that it takes, however often it is told
                await self._delete(lc[name])
        for name, pod in lc.items():  # unbound: made by an agent that died before it could bind it
            node = None if pod["spec"].get("nodeName") else _node_of(name, names)
            if node is not None:
                await self._watch.bind(pod, node)
        failed = [f for f in made if isinstance(f, BaseException)]
        if create or plan.remove:
            log.info("instances_deployed", cluster=self._cluster, created=len(made) - len(failed), removed=len(plan.remove))
        refused = await self._note(create, made)
        why = {(service.name, node): words for (service, node, _), words in full.items()}
        await self._note_lacking(why | self._crowded(crowded, now_s) | self._stuck(lc.values(), now_s), now_s)
        if other := [f for f in failed if not (isinstance(f, ClusterError) and f.refusal)]:
            raise other[0]
        return not refused and len(create) + len(full) == len(plan.create)

    async def _delete(self, pod: Json, *, at_once: bool = False) -> None:
        await self._watch.delete_pod(self._watch.name_of(pod), uid=pod["metadata"]["uid"], at_once=at_once)

    def _count_ends(self, pods: Iterable[Json], now_s: float) -> None:
        ended = set()
        for pod in pods:
            uid, at = (
                pod["metadata"]["uid"],
                f"{pod['metadata']['labels'].get(SERVICE, '')}@{pod['spec'].get('nodeName', '')}",
            )
            if is_over(pod):
                ended.add(uid)
                if uid not in self._ended:
                    self._remakes.failed(at, now_s)
            elif (found := standing(pod)) is not None and found.ready:
                self._remakes.went_well(at)
        self._ended = ended

    def _may_create(self, create: Sequence[Creation], now_s: float) -> list[Creation]:
        """What is not refused just now; of a service that was refused last one instance, which tells whether it still is."""
        found, tried = list[Creation](), set[str]()
        for service, node, k in create:
            scopes = {name for name in ("", service.name) if self._creates.has_failed(name)}
            may = all(self._creates.is_open(name, now_s) for name in scopes) and not scopes & tried
            if may and self._remakes.is_open(f"{service.name}@{node}", now_s):
                found.append((service, node, k))
                tried |= scopes
        return found

    def _crowded(self, waiting: Mapping[Creation, str], now_s: float) -> dict[tuple[str, str], str]:
        """(service, node) → why an instance is not there, where BE has not given way for a while."""
        since_s = {creation: self._crowded_since_s.get(instance_name(creation), now_s) for creation in waiting}
        self._crowded_since_s = {instance_name(creation): at_s for creation, at_s in since_s.items()}
        return {
            (service.name, node): words
            for (service, node, k), words in waiting.items()
            if now_s - since_s[service, node, k] >= STUCK_AFTER_S
        }

    def _stuck(self, pods: Iterable[Json], now_s: float) -> dict[tuple[str, str], str]:
        """(service, node) → why an instance there does not start, or not stay, and has not for a while."""
        since_s, found = dict[str, float](), dict[tuple[str, str], str]()
        for pod in pods:
            words = crash(pod) or (told[1] if (told := stuck(pod)) is not None else "")
            if not words or is_over(pod):
                continue
            uid = pod["metadata"]["uid"]
            since_s[uid] = self._stuck_since_s.get(uid, now_s)
            if now_s - since_s[uid] >= STUCK_AFTER_S:
                found[pod["metadata"]["labels"].get(SERVICE, ""), pod["spec"].get("nodeName", "")] = words
        self._stuck_since_s = since_s
        return found

    async def _note_lacking(self, why: Mapping[tuple[str, str], str], now_s: float) -> None:
        """Tell the centre where an instance is lacking and why, again before it forgets it, and where none is any more."""
        known = self._told_lacking
        new = {at: words for at, words in why.items() if now_s - known.get(at, -LACKING_AGAIN_S) >= LACKING_AGAIN_S}
        gone = known.keys() - why.keys()
        if not (new or gone):
            return
        noted = [
            Refusal.of(RefusalKind.NODE, cluster=self._cluster, service=service, node=node, words=words)
            for (service, node), words in new.items()
        ]

        def write() -> None:
            for service, node in gone:
                self._refusals.clear(self._cluster, [service], role=ROLE, node=node)
            self._refusals.note(noted, role=ROLE)

        async with self._store_turn:
            await asyncio.to_thread(write)
        self._told_lacking = {at: at_s for at, at_s in known.items() if at in why} | dict.fromkeys(new, now_s)
        for refusal in noted:
            log.warning("instance_lacking", cluster=self._cluster, node=refusal.node, words=refusal.words)

    async def _note(self, create: Sequence[Creation], made: Sequence[object]) -> bool:
        """Tell the centre what was refused, and what is taken again; gives whether anything was refused."""
        now_s, noted, taken = time.monotonic(), dict[str, Refusal](), set[str]()
        for (service, _, _), result in zip(create, made, strict=True):
            if isinstance(result, ClusterError) and result.refusal:
                refusal = Refusal.of(
                    RefusalKind(result.refusal),
                    cluster=self._cluster,
                    service=service.name,
                    namespace=result.namespace,
                    words=result.words or str(result),
                    at_least_s=result.retry_after_s,
                )
                noted[refusal.service] = refusal
            elif not isinstance(result, BaseException):
                taken |= {service.name, ""}
        again = {name for name in taken - noted.keys() if self._creates.has_failed(name)}
        if not (again or noted):
            return False
        for name, refusal in noted.items():  # before the centre is told, which may be away
            self._creates.failed(name, now_s, at_least_s=refusal.at_least_s)
            log.warning("instance_refused", cluster=self._cluster, service=name, kind=str(refusal.kind), words=refusal.words)

        def write() -> None:
            if again:
                self._refusals.clear(self._cluster, sorted(again), role=ROLE)
            self._refusals.note(list(noted.values()), role=ROLE)

        async with self._store_turn:
            await asyncio.to_thread(write)
        for name in again:
            self._creates.went_well(name)
        return bool(noted)


def _each_once(
    pods: Iterable[Json], services: Sequence[Service], name_of: Callable[[Json], str]
) -> tuple[dict[str, Json], list[Json]]:
    """(pods by name, others of the same names): a service whose namespace was changed has its instance of a node in one of them at a time.

    Two are there where the former namespace could not be seen meanwhile; the one where the service is now stays.
    """
    wanted = {s.name: s.namespace for s in services}

    def is_elsewhere(pod: Json) -> bool:
        return parts_of_pod(name_of(pod))[0] != wanted.get(pod["metadata"]["labels"].get(SERVICE, ""))

    found, doubles = dict[str, Json](), list[Json]()
    for pod in sorted(pods, key=is_elsewhere):
        if found.setdefault(pod["metadata"]["name"], pod) is not pod:
            doubles.append(pod)
    return found, doubles


def _node_of(pod: str, nodes: set[str]) -> str | None:
    """The node in an LC instance's name (`lc-SERVICE-NODE-K`); the longest match, since one node's name may end in another's."""
    stem = pod.rsplit("-", 1)[0]
    fitting = [node for node in nodes if stem.endswith(f"-{node}")]
    return max(fitting, key=len) if fitting else None
