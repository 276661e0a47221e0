"""The agent's care for pods of jobs: their logs, how they ended, and those that nobody wants any more or that cannot start.

    pod is asked to go ─► its log is followed          so that its last words are read before the kubelet takes the pod away
    pod has ended ─► log read ─► log kept, attempt ended, in one transaction ─► pod deleted

Each step may be repeated, after any crash: a log that is kept stays, an attempt ends once, and a pod that is gone counts as deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from tango.control.be_tracing import BeTracing
from tango.control.observe_cluster import be_identity, node_refusal, pod_class, pod_end
from tango.control.observe_jobs import containers_of, has_ended, is_job, job_end, stuck, stuck_end, waits
from tango.domain.jobs import LOG_TAIL_BYTES, ContainerLog
from tango.errors import ClusterError, ClusterUnavailable, StoreUnavailable, UsageError
from tango.ports.clock import Clock
from tango.ports.clusters import ClusterWatch
from tango.ports.jobs import JobStore
from tango.settings import JobSettings

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]

LOGS_AT_ONCE = 8
"""Pods whose logs are read at the same time: each holds `LOG_TAIL_BYTES` of each of its containers, and one that hangs delays no other."""


class JobPods:
    """Pods of jobs of one cluster. `on_pod` takes what the watch tells; `settle` and `look` are steps of the agent, to be repeated."""

    def __init__(
        self,
        cluster: str,
        watch: ClusterWatch,
        jobs: JobStore,
        clock: Clock,
        settings: JobSettings,
        *,
        run_zero_s: Callable[[int], float],
        store_turn: asyncio.Lock,
        is_settled: Callable[[str, Json, bool], None],
        tracing: BeTracing | None = None,
    ) -> None:
        """`run_zero_s`: as `AgentStores`. Who holds `store_turn` writes to the centre.

        `is_settled(uid, pod, is_gone)` is told of each pod whose end the store has; one that is not gone is to be deleted.
        """
        self._cluster, self._watch, self._jobs, self._clock, self._settings = cluster, watch, jobs, clock, settings
        self._run_zero_s, self._store_turn, self._is_settled = run_zero_s, store_turn, is_settled
        self._tracing = tracing
        self._ended: dict[str, tuple[Json, bool]] = {}
        """Pods by uid that have ended and are not settled, and whether they vanished."""
        self._followed: dict[str, asyncio.Task[tuple[ContainerLog, ...]]] = {}
        """By uid, the logs of pods that were asked to go."""
        self._logs: dict[str, tuple[ContainerLog, ...]] = {}
        """Logs that have been read of pods that are not settled."""
        self._stuck_since_s: dict[str, float] = {}
        self._waits: dict[tuple[int, int, int], str] = {}
        """By attempt, why its pod did not start at the last look; told at the next one if it is still so."""
        self._told_waits: dict[tuple[int, int, int], str] = {}
        """What of that the centre has."""
        self._reading = asyncio.Semaphore(LOGS_AT_ONCE)

    @property
    def has_ended_pods(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._ended)

    def on_pod(self, pod: Json, *, deleted: bool) -> bool:
        """What the watch tells of a job's pod; gives whether it has ended. The same again changes nothing."""
        uid = pod["metadata"]["uid"]
        if not deleted and not has_ended(pod):
            if pod["metadata"].get("deletionTimestamp") and uid not in self._followed and containers_of(pod):
                self._followed[uid] = asyncio.get_running_loop().create_task(self._read(pod, follow=True))
            return False
        self._ended.setdefault(uid, (pod, deleted))
        return True

    async def settle(self) -> None:
        """Read the logs of pods that have ended, keep them and end their attempts. Raises: StoreUnavailable, StoreError; the next call
        then settles them again, and reads no log twice."""
        ended = dict(self._ended)
        await asyncio.gather(
            *(self._keep_read(uid, pod, deleted) for uid, (pod, deleted) in ended.items() if uid not in self._logs)
        )
        now_s = self._clock.now_s()

        def write() -> set[str]:
            """Each pod apart, so that one which the store refuses for good costs the others nothing; gives those that are done with."""
            done = set()
            for uid, (pod, deleted) in ended.items():
                try:
                    end = job_end(pod, deleted=deleted, run_zero_s=self._run_zero_s(_run_of(pod)), now_s=now_s)
                    if end is not None:
                        self._jobs.end([dataclasses.replace(end, logs=self._logs.get(uid, ()))])
                        if self._tracing is not None:
                            self._tracing.settled([end.key])
                except StoreUnavailable:
                    raise
                except UsageError:  # the run was deleted: nothing is left to settle, the pod goes
                    pass
                except Exception:
                    log.exception("job_end_refused", cluster=self._cluster, pod=pod["metadata"]["name"])
                    # Left to its lease; the pod is not deleted, so that somebody can look at it.
                    continue
                done.add(uid)
            return done

        async with self._store_turn:
            done = await asyncio.to_thread(write)
        for uid, (pod, deleted) in ended.items():
            self._ended.pop(uid, None)
            self._logs.pop(uid, None)
            if uid in done:
                self._is_settled(uid, pod, deleted)

    async def look(self) -> None:
        """Delete pods that nobody wants any more, with their grace, end attempts that cannot start, and tell why others wait."""
        now_s = self._clock.now_s()
        pods = {
            pod["metadata"]["uid"]: pod
            for pod in self._watch.pods()
            if pod_class(pod) == "be" and is_job(pod) and not has_ended(pod) and not pod["metadata"].get("deletionTimestamp")
        }
        if not pods:
            self._stuck_since_s.clear()
            self._waits, self._told_waits = {}, {}
            return
        keys = {uid: identity for uid, pod in pods.items() if (identity := be_identity(pod)) is not None}
        async with self._store_turn:
            wanted = await asyncio.to_thread(self._jobs.in_flight, list(keys.values()))
        for uid, key in keys.items():
            if key not in wanted:
                log.info("job_pod_not_wanted", cluster=self._cluster, pod=pods[uid]["metadata"]["name"])
                await self._watch.delete_pod(self._watch.name_of(pods[uid]), uid=uid)
        await self._tell_waits({key: words for uid, key in keys.items() if key in wanted and (words := waits(pods[uid]))})
        await self._end_stuck({uid: pods[uid] for uid, key in keys.items() if key in wanted}, now_s)

    async def _tell_waits(self, why: Mapping[tuple[int, int, int], str]) -> None:
        """Tell the centre what two looks have found, so that a pod which starts at once costs no row; and that it is over."""
        lasting = {key: words for key, words in why.items() if key in self._waits}
        told = self._told_waits
        news = {key: words for key, words in lasting.items() if told.get(key) != words}
        news |= {key: "" for key in told.keys() - why.keys()}
        self._waits = dict(why)
        if news:
            async with self._store_turn:
                await asyncio.to_thread(self._jobs.note_waiting, news)
            self._told_waits = {key: words for key, words in (told | news).items() if words}

    async def _end_stuck(self, pods: Mapping[str, Json], now_s: float) -> None:
        since_s: dict[str, float] = {}
        for uid, pod in pods.items():
            if (found := stuck(pod)) is None:
                continue
            reason, message, for_ever = found
            since_s[uid] = self._stuck_since_s.get(uid, now_s)
            if not for_ever and now_s - since_s[uid] < self._settings.image_within_s:
                continue
            end = stuck_end(pod, reason, message)
            if end is not None:
                log.warning(
                    "job_cannot_start", cluster=self._cluster, pod=pod["metadata"]["name"], reason=str(reason), message=message
                )
                async with self._store_turn:
                    await asyncio.to_thread(self._jobs.end, [end])
                    if self._tracing is not None:
                        await asyncio.to_thread(self._tracing.settled, [end.key])
            await self._watch.delete_pod(self._watch.name_of(pod), uid=uid)
        self._stuck_since_s = since_s

    async def _keep_read(self, uid: str, pod: Json, deleted: bool) -> None:
        followed = self._followed.pop(uid, None)
        if followed is not None:
            # The stream ends with the containers, which have ended; what it has by the deadline is what is kept.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.log_within_s):
                    self._logs[uid] = await followed
                    return
        self._logs[uid] = () if deleted or _never_ran(pod) else await self._read(pod, follow=False)

    async def _read(self, pod: Json, *, follow: bool) -> tuple[ContainerLog, ...]:
        """The ends of the logs of all containers that have begun; without those that cannot be read."""
        async with self._reading if not follow else contextlib.nullcontext():
            found = await asyncio.gather(*(self._tail(pod, name, follow=follow) for name in containers_of(pod)))
        return tuple(tail for tail in found if tail is not None)

    async def _tail(self, pod: Json, container: str, *, follow: bool) -> ContainerLog | None:
        name, settings = self._watch.name_of(pod), self._settings
        # A pod that is asked to go has its grace, and then some time to be stopped.
        within_s = settings.log_within_s + (float(pod["metadata"].get("deletionGracePeriodSeconds") or 0) if follow else 0.0)
        try:
            return await self._watch.log_tail(
                name, container, lines=settings.log_lines, most_bytes=LOG_TAIL_BYTES, follow=follow, within_s=within_s
            )
        except (ClusterError, ClusterUnavailable) as error:
            log.warning("job_log_not_read", cluster=self._cluster, pod=name, container=container, error=str(error))
            return None


def _never_ran(pod: Json) -> bool:
    """Whether its kubelet has refused it: there is no log, whatever its containers' statuses are by now."""
    end = pod_end(pod, deleted=False)
    return end is not None and node_refusal(end, "") is not None


def _run_of(pod: Json) -> int:
    identity = be_identity(pod)
    return 0 if identity is None else identity[0]
