"""The agent's care for BE pods of traces that nobody wants any more, or that cannot start. Pods of jobs have their own (`job_pods`).

A pod is wanted while its request is in flight under the pod's epoch. Others are what a dead scheduler, a run that was cancelled while the
cluster was away, or a lease that ran out has left: they hold resources of which the centre knows nothing. A pod that cannot start, as
without its image, gives its request back, and its node gets no such pod for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from tango.control.lc_instances import ROLE
from tango.control.observe_cluster import be_identity, is_over, pod_class
from tango.control.observe_jobs import is_job, stuck
from tango.domain.lifecycle import Event, Outcome
from tango.domain.pod_marks import SERVICE
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterWatch
from tango.ports.jobs import JobStore
from tango.ports.refusals import RefusalStore
from tango.ports.requests import BeRequests
from tango.settings import JobSettings

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]
Key = tuple[int, int, int]
"""(run, request, epoch)"""

LOOK_EVERY_S = 5.0
"""Seconds between two looks. A pod is asked about when it was there at the look before, so that what lives for seconds, as nearly all BE
of traces, costs no question; an orphan is found within ten seconds."""


class BePods:
    """BE pods of traces in one cluster. `look` is a step of the agent, to be repeated every `LOOK_EVERY_S`."""

    def __init__(
        self,
        cluster: str,
        watch: ClusterWatch,
        clock: Clock,
        settings: JobSettings,
        *,
        requests: BeRequests,
        jobs: JobStore,
        refusals: RefusalStore,
        store_turn: asyncio.Lock,
    ) -> None:
        """Who holds `store_turn` writes to the centre."""
        self._cluster, self._watch, self._clock, self._settings = cluster, watch, clock, settings
        self._requests, self._jobs, self._refusals, self._store_turn = requests, jobs, refusals, store_turn
        self._seen: set[str] = set()
        """Uids of pods that were there at the last look."""
        self._stuck_since_s: dict[str, float] = {}

    async def look(self) -> None:
        """Delete pods that nobody wants, with their grace, and give back the requests of those that cannot start."""
        pods = {
            pod["metadata"]["uid"]: pod
            for pod in self._watch.pods()
            if pod_class(pod) == "be" and not is_job(pod) and not is_over(pod) and not pod["metadata"].get("deletionTimestamp")
        }
        old = {uid: pod for uid, pod in pods.items() if uid in self._seen}
        self._seen = set(pods)
        await self._give_back(pods)
        keys = {uid: key for uid, pod in old.items() if (key := be_identity(pod)) is not None}
        if not keys:
            return
        async with self._store_turn:
            wanted = await asyncio.to_thread(self._jobs.in_flight, list(keys.values()))
        for uid, key in keys.items():
            if key not in wanted:
                log.info("pod_not_wanted", cluster=self._cluster, pod=old[uid]["metadata"]["name"])
                await self._watch.delete_pod(self._watch.name_of(old[uid]), uid=uid)

    async def _give_back(self, pods: Mapping[str, Json]) -> None:
        now_s, since_s = self._clock.now_s(), dict[str, float]()
        ends, refusals, gone = list[Outcome](), list[Refusal](), list[tuple[str, str]]()
        for uid, pod in pods.items():
            if (found := stuck(pod)) is None or (key := be_identity(pod)) is None:
                continue
            reason, words, for_ever = found
            since_s[uid] = self._stuck_since_s.get(uid, now_s)
            if not for_ever and now_s - since_s[uid] < self._settings.image_within_s:
                continue
            run_id, request_id, epoch = key
            ends.append(Outcome(run_id=run_id, request_id=request_id, epoch=epoch, event=Event.REQUEUE, reason=reason, words=words))
            service, node = pod["metadata"]["labels"].get(SERVICE, ""), pod["spec"].get("nodeName", "")
            refusals.append(Refusal.of(RefusalKind.NODE, cluster=self._cluster, service=service, node=node, words=words))
            gone.append((uid, self._watch.name_of(pod)))
            log.warning("pod_cannot_start", cluster=self._cluster, pod=pod["metadata"]["name"], reason=str(reason), words=words)
        self._stuck_since_s = since_s
        if not ends:
            return

        def write() -> None:
            self._requests.settle(ends)
            self._refusals.note(refusals, role=ROLE)

        async with self._store_turn:
            await asyncio.to_thread(write)
        for uid, name in gone:
            await self._watch.delete_pod(name, uid=uid)
