"""Virtual nodes: admit, run, resize and stop pods on the node model. Changes are reported by a callback; no API is called here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

from tango.client.signatures import service_key
from tango.domain.fleet import Cluster, Fleet
from tango.domain.identity import NodeKey, PodKey
from tango.domain.kubelet_ways import ANNOTATION, ways_of
from tango.emulation.virtual_kubelet import statuses
from tango.emulation.virtual_kubelet.admission import Allocations, KubeletState, pressed, unsuited
from tango.emulation.virtual_kubelet.images import CREATING, NodeImages
from tango.emulation.virtual_kubelet.lc_instance import LcInstance
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_run import PodListener, PodRun
from tango.emulation.virtual_kubelet.pod_spec import (
    PodKind,
    PodSize,
    PodSpec,
    allocated_size,
    container_resources,
    is_synthetic,
    pod_size,
    pod_spec,
)
from tango.emulation.virtual_kubelet.process_container import STEADY_BACKOFFS
from tango.emulation.virtual_kubelet.process_host import ProcessHost
from tango.emulation.virtual_kubelet.process_pod import ProcessPod
from tango.emulation.virtual_kubelet.process_statuses import process_status
from tango.emulation.virtual_kubelet.resizing import Resizer, limit_cores, weight_of
from tango.emulation.virtual_kubelet.statuses import KILLED, TERMINATED
from tango.emulation.workload.http1 import WorkConnection

log = structlog.get_logger(__name__)
Json = dict[str, Any]

SHORT_POD_S = 0.1
"""Seconds. A pod that could end sooner is reported Running only after it has run so long, so that most short pods cost one status write
instead of two."""
DRAIN_POLL_S = 0.02
"""Seconds between two looks at an instance that is finishing its requests."""
LEAST_GRACE_S = 1.0
"""Seconds that a container has after SIGTERM when its pod was deleted by force; the kubelet's own minimum."""
ENDS_WITHIN_S = 0.5
"""Seconds for a process that got SIGKILL to be gone."""
LISTEN_AGAIN_S = 5.0
"""Seconds until an instance without an address tries again to listen."""


class Addresses(Protocol):
    """Port: addresses for pods."""

    async def listen(
        self, connection: Callable[[], asyncio.Protocol], *, node: NodeKey, port: int, preferred: str = ""
    ) -> tuple[PodListener, str]:
        """Listen on a free address of the node, the preferred one if it is free; return the listener and the address. Raises: OSError."""
        ...

    def give_back(self, address: str) -> None:
        """Free an address for other pods."""
        ...


class NodePool:
    """All virtual nodes of one cluster. `report(uid)` is called whenever `status(uid)` has changed."""

    def __init__(
        self,
        fleet: Fleet,
        cluster: Cluster,
        *,
        timeline: NodeTimeline,
        network: ClusterNetwork,
        addresses: Addresses,
        report: Callable[[str], None],
        processes: ProcessHost | None = None,
        call_key: str = "",
    ) -> None:
        """`processes`: runs pods that are not of Tango's own workload as local processes; None: all pods are modelled. `call_key`: what
        workers sign requests with; empty: instances serve whoever reaches them."""
        self._call_key = call_key
        self.nodes = nodes = cluster.nodes
        self.index = {node.name: k for k, node in enumerate(nodes)}
        self._cluster = cluster.name
        self._service_row = {service.name: k for k, service in enumerate(fleet.services)}
        """Rows of the model's traits."""
        self.runs: dict[str, PodRun] = {}
        self.timeline = timeline
        self._ledgers = [Allocations(node) for node in nodes]
        self._fleet_ways = fleet.kubelets
        self.states = [KubeletState(node.name, ways=fleet.kubelets) for node in nodes]
        """Of each node, as its Node object was last seen."""
        self._images = [NodeImages(lambda k=k: self.states[k].ways) for k in range(len(nodes))]  # type: ignore[misc]
        self._resizer = Resizer(
            self._ledgers,
            self.runs,
            timeline=timeline,
            delay_s=fleet.actuation_delay_s,
            report=report,
            ways=lambda k: self.states[k].ways,
        )
        self._network = network
        self._addresses = addresses
        self._report = report
        self.processes = processes
        if processes is not None:
            processes.ways = lambda node: self.states[self.index[node]].ways
        self._tasks: set[asyncio.Task[None]] = set()

    def status(self, uid: str) -> Json | None:
        """The pod's current status for the API; None for an unknown pod, or one whose status is not to be written yet."""
        run = self.runs.get(uid)
        if run is None:
            return None
        if run.final is not None:
            return run.final
        if run.process is not None:
            return process_status(run, run.process)
        if run.waits is not None:
            return statuses.waiting(run.spec, *run.waits, restarts=run.restarts, generation=run.generation, last=run.last)
        if not run.running or run.quiet:
            return None
        return statuses.running(
            run.spec,
            statuses.Running(
                ip=run.ip,
                started_s=run.started_s,
                changed_s=run.changed_s,
                ready=run.instance is None or not run.instance.stopping,
                restarts=run.restarts,
                generation=run.generation,
                allocated=run.allocated,
                actual=run.actual,
                resize=run.resize,
                was_resized=run.was_resized,
                last=run.last,
            ),
        )

    def note_node(self, node: Json) -> bool:
        """Take over labels, taints and ways from a Node object; gives whether the conditions that it reports are others now."""
        k = self.index.get(node["metadata"]["name"])
        if k is None:
            return False
        before, metadata = self.states[k], node["metadata"]
        try:
            text = (metadata.get("annotations") or {}).get(ANNOTATION)
            ways = ways_of(json.loads(text), self._fleet_ways) if text else self._fleet_ways
        except (ValueError, RecursionError) as error:
            log.warning("kubelet_ways_refused", node=metadata["name"], annotation=ANNOTATION, error=str(error))
            ways = before.ways
        taints = tuple((node.get("spec") or {}).get("taints") or ())
        self.states[k] = KubeletState(metadata["name"], metadata.get("labels") or {}, taints, ways)
        if ways.resize != before.ways.resize:
            self._resizer.retry_deferred(k)
        return ways.pressure != before.ways.pressure

    def resize(self, pod: Json) -> None:
        """Start a resize if the resources in the pod's spec have changed; called for every change of the pod."""
        self._resizer.follow(pod)

    # ---- starting --------------------------------------------------------------------------------------------------------

    async def start(self, pod: Json, *, restarts: int = 0) -> None:
        """Admit and start a pod, or fail it with the reason that a kubelet gives. `restarts` is above 0 after a reboot of the node."""
        metadata = pod["metadata"]
        generation, now_s = metadata.get("generation", 1), self.timeline.unix_s(self.timeline.now_s())
        resources = (restarts and _in_effect(pod)) or container_resources(pod)
        try:
            spec = pod_spec(pod)
            asked = allocated_size(spec, resources)
        except ValueError as error:
            bare: Json = {**pod, "spec": {**pod["spec"], "containers": [{**c, "env": []} for c in pod["spec"]["containers"]]}}
            run = self._add(pod_spec(bare), generation, resources, restarts)
            self._finish(run, statuses.refused("UnexpectedAdmissionError", str(error), now_s=now_s, generation=generation))
            return
        run = self._add(spec, generation, resources, restarts)
        run.was_resized = restarts > 0  # an earlier life may have left conditions
        ledger, state = self._ledgers[run.node], self.states[run.node]
        refusal = pressed(pod, state) or ledger.refusal(asked) or unsuited(pod, state)
        if refusal is not None:
            self._finish(run, statuses.refused(*refusal, now_s=now_s, generation=generation))
            return
        # Allocated before anything is awaited, so that a pod that is admitted meanwhile sees these resources taken.
        ledger.put(spec.uid, asked)
        run.started_s = run.changed_s = now_s
        containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        if not await self._images[run.node].prepare(containers, lambda *told: self._wait(run, told)):
            return
        run.waits = None
        run.started_s = run.changed_s = self.timeline.unix_s(self.timeline.now_s())
        size = pod_size(run.allocated)  # a resize may have come meanwhile
        if self.processes is not None and not is_synthetic(pod):
            self._start_processes(run, pod, self.processes)
        elif spec.kind is PodKind.LC:
            await self._start_lc(run, size, preferred=(pod.get("status") or {}).get("podIP", ""))
        elif spec.kind is PodKind.BE:
            self._start_be(run, size)
        else:
            run.running = True
            self._report(spec.uid)
        self._resizer.follow(pod)

    def _wait(self, run: PodRun, told: tuple[str, str]) -> bool:
        """Report what a pod waits for, unless it has been stopped."""
        if not run.over and run.waits != told:
            run.waits = told
            self._report(run.spec.uid)
        return not run.over

    def lose(self, pod: Json) -> None:
        """Fail a BE pod that ran when the previous kubelet process ended; its work is lost."""
        run = self._add(pod_spec(pod), pod["metadata"].get("generation", 1), container_resources(pod), 0)
        self._finish(run, statuses.lost(pod, run.spec, now_s=self.timeline.unix_s(self.timeline.now_s())))

    def _add(self, spec: PodSpec, generation: int, resources: tuple[Json, ...], restarts: int) -> PodRun:
        run = PodRun(
            spec=spec,
            node=self.index[spec.node],
            generation=generation,
            wanted=resources,
            allocated=resources,
            actual=resources,
            restarts=restarts,
        )
        self.runs[spec.uid] = run
        return run

    async def _start_lc(self, run: PodRun, size: PodSize, *, preferred: str) -> None:
        spec, node = run.spec, self.nodes[run.node]
        # The limit of the synthetic workload has room for the program beside what its requests hold.
        most_mib = size.memory_request_mib if spec.memory_mib else size.memory_limit_mib
        memory_mib = float(most_mib or node.memory_mib)
        concurrency = spec.concurrency
        run.key = self.timeline.add_instance(
            run.node,
            limit_cores=limit_cores(self.nodes[run.node], size),
            memory_mib=memory_mib,
            concurrency=concurrency,
            service=self._service_row.get(spec.service, -1),
        )
        run.instance = instance = LcInstance(
            self.timeline,
            self._network,
            name=str(PodKey(self._cluster, spec.fleet_name)),
            node=run.node,
            row=run.key,
            largest_memory_mib=memory_mib,
            key=service_key(self._call_key, spec.service) if self._call_key and spec.service else "",
        )
        if size.memory_limit_mib is not None:
            left_mib = size.memory_limit_mib - self.states[run.node].ways.program_mib
            if memory_mib > left_mib:
                instance.killed_beyond = left_mib, lambda: self._kill_for_memory(run)
        run.running = True
        await self._listen(run, instance, preferred)

    def _kill_for_memory(self, run: PodRun) -> None:
        """End an LC instance as a kernel does whose limit it exceeds: its requests are lost, and it is started again with backoff."""
        now_s, ip = self.timeline.unix_s(self.timeline.now_s()), run.ip
        first_s, longest_s = self.states[run.node].ways.backoff_s
        if now_s - run.started_s > STEADY_BACKOFFS * longest_s:
            run.backoff_s = 0.0
        pause_s, run.backoff_s = run.backoff_s, min(2 * run.backoff_s, longest_s) or first_s
        run.last = statuses.killed_for_memory(started_s=run.started_s, finished_s=now_s)
        run.waits = (
            ("CrashLoopBackOff", f"back-off {pause_s:g}s restarting failed container={run.spec.main}") if pause_s else CREATING
        )
        run.restarts += 1
        self._close(run)
        run.instance, run.key, run.running = None, -1, False
        self._report(run.spec.uid)
        self.timeline.at(self.timeline.now_s() + pause_s, lambda _: self._restart_lc(run, ip))

    def _restart_lc(self, run: PodRun, ip: str) -> None:
        if not run.over:
            self._keep_task(self._start_lc(run, pod_size(run.allocated), preferred=ip))

    async def _listen(self, run: PodRun, instance: LcInstance, preferred: str = "") -> None:
        try:
            run.listener, run.ip = await self._addresses.listen(
                lambda: WorkConnection(instance),
                node=NodeKey(self._cluster, self.nodes[run.node].name),
                port=run.spec.port,
                preferred=preferred,
            )
        except OSError as error:
            log.warning("pod_address_missing", pod=run.spec.name, port=run.spec.port, error=str(error))
            run.waits = ("RunContainerError", str(error))
            self.timeline.at(self.timeline.now_s() + LISTEN_AGAIN_S, lambda _: self._listen_again(run, instance))
        else:
            run.waits = None
            run.started_s = run.changed_s = self.timeline.unix_s(self.timeline.now_s())
            if run.over:  # stopped while it was about to listen
                self._close(run)
        self._report(run.spec.uid)

    def _listen_again(self, run: PodRun, instance: LcInstance) -> None:
        if not run.over:
            self._keep_task(self._listen(run, instance))

    def _start_processes(self, run: PodRun, pod: Json, host: ProcessHost) -> None:
        if run.over:
            return
        try:
            place = host.place(run.spec, preferred=run.ip or (pod.get("status") or {}).get("podIP", ""))
        except OSError as error:
            log.warning("pod_address_missing", pod=run.spec.name, error=str(error))
            run.waits = ("RunContainerError", str(error))
            self.timeline.at(self.timeline.now_s() + LISTEN_AGAIN_S, lambda _: self._start_processes(run, pod, host))
            self._report(run.spec.uid)
            return
        run.waits = None
        run.ip, run.running = place.ip, True
        made = ProcessPod(
            pod,
            place,
            host,
            main=run.spec.main,
            changed=lambda: self._process_changed(run),
            over=lambda phase, reason, message: self._processes_over(run, phase, reason, message),
        )
        for container in made.containers:
            container.restarts = run.restarts
        run.process = made
        made.start()
        self._report(run.spec.uid)

    def _process_changed(self, run: PodRun) -> None:
        if not run.over:
            run.changed_s = self.timeline.unix_s(self.timeline.now_s())
            self._report(run.spec.uid)

    def _processes_over(self, run: PodRun, phase: str, reason: str, message: str) -> None:
        if run.process is not None and not run.over:
            run.changed_s = self.timeline.unix_s(self.timeline.now_s())
            self._finish(run, process_status(run, run.process, phase=phase, reason=reason, message=message))

    def _start_be(self, run: PodRun, size: PodSize) -> None:
        spec = run.spec
        run.running = True
        held_mib = spec.memory_mib + self.states[run.node].ways.program_mib
        if size.memory_limit_mib is not None and held_mib > size.memory_limit_mib:
            self._end_be(run, run.started_s, exit_code=KILLED, reason="OOMKilled", done_s=0.0)
            return
        cores = limit_cores(self.nodes[run.node], size)
        run.key = self.timeline.add_pod(
            run.node,
            weight=weight_of(size),
            limit_cores=cores,
            work_s=spec.work_s,
            memory_mib=held_mib,
            ended=lambda started_s, finished_s: self._be_ended(run, started_s, finished_s),
            service=self._service_row.get(spec.service, -1),
        )
        if spec.work_s / cores >= SHORT_POD_S:
            self._report(spec.uid)
        else:
            run.quiet = True
            self.timeline.at(self.timeline.now_s() + SHORT_POD_S, lambda _: self._tell(run))

    def _tell(self, run: PodRun) -> None:
        if not run.over:
            run.quiet = False
            self._report(run.spec.uid)

    def _be_ended(self, run: PodRun, started_s: float, finished_s: float) -> None:
        run.started_s = self.timeline.unix_s(started_s)
        self._end_be(run, self.timeline.unix_s(finished_s), exit_code=0, reason="Completed", done_s=run.spec.work_s)

    def _end_be(self, run: PodRun, finished_s: float, *, exit_code: int, reason: str, done_s: float) -> None:
        self._finish(
            run,
            statuses.ended(
                run.spec,
                started_s=run.started_s,
                finished_s=finished_s,
                exit_code=exit_code,
                reason=reason,
                work_done_s=done_s,
                generation=run.generation,
            ),
        )

    # ---- stopping --------------------------------------------------------------------------------------------------------

    async def stop(self, uid: str, *, grace_s: float) -> None:
        """Stop a pod. An LC instance finishes its requests within `grace_s`; a BE pod stops at once and reports the work it had done."""
        run = self.runs.get(uid)
        if run is None or run.over:
            return
        if run.process is not None:
            await run.process.stop(grace_s)
            if not run.over:
                # Of a pod that is deleted nobody asks for the phase, but for exit codes and messages.
                done = all(c.ended is not None and not c.ended.exit_code for c in run.process.containers)
                self._processes_over(run, "Succeeded" if done else "Failed", "", "")
            return
        if run.instance is not None and not run.instance.stopping:
            run.instance.stopping = True
            run.changed_s = self.timeline.unix_s(self.timeline.now_s())
            deadline_s = self.timeline.now_s() + grace_s
            if run.instance.under_way and grace_s > 0:
                self._report(uid)
            while run.instance.under_way and self.timeline.now_s() < deadline_s and not run.over:
                await asyncio.sleep(DRAIN_POLL_S)
        elif run.key >= 0:
            deadline_s = self.timeline.now_s() + min(grace_s, self.states[run.node].ways.stop_s)
            while self.timeline.now_s() < deadline_s and not run.over:
                await asyncio.sleep(DRAIN_POLL_S)
        if not run.over:
            self._cut(run, tell=True)

    def forget(self, uid: str) -> None:
        """Forget a pod that has been deleted from the API, and stop what of it still runs.

        Who deletes by force frees the name and not the node: the containers get SIGTERM and, for want of a grace period, the least that
        a kubelet gives, and until they have ended they hold what they hold.
        """
        run = self.runs.pop(uid, None)
        if run is None:
            return
        if run.process is not None and not run.over:
            self._keep_task(self._end_forced(run, run.process))
            return
        linger_s = 0.0 if run.over else min(LEAST_GRACE_S, self.states[run.node].ways.stop_s)
        if linger_s and run.running:
            self.timeline.at(self.timeline.now_s() + linger_s, lambda _: None if run.over else self._cut(run, tell=False))
        elif not run.over:
            self._cut(run, tell=False)
        if run.process is not None:
            run.process.forget()

    async def _end_forced(self, run: PodRun, process: ProcessPod) -> None:
        # Whatever grace an earlier delete has given: the time is over now.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.stop(LEAST_GRACE_S), LEAST_GRACE_S + ENDS_WITHIN_S)
        if not run.over:
            self._cut(run, tell=False)
        process.forget()

    def _keep_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself keeps a weak reference only
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop listening and close all connections, as when the machine goes down."""
        for task in self._tasks:
            task.cancel()
        for run in self.runs.values():
            self._close(run)

    def _cut(self, run: PodRun, *, tell: bool) -> None:
        if run.spec.kind is PodKind.BE and run.key >= 0:
            done_s = self.timeline.remove_pod(run.node, run.key)
            if run.over:  # removing it first processed what was due, and the pod ended in that
                return
            if tell:
                now_s = self.timeline.unix_s(self.timeline.now_s())
                self._end_be(run, now_s, exit_code=TERMINATED, reason="Error", done_s=done_s or 0.0)
                return
        self._finish(run, None)

    def _finish(self, run: PodRun, final: Json | None) -> None:
        """Release all that a pod holds, report its final status unless that is None, and retry resizes that waited for it."""
        run.over = True
        run.running = False
        run.waits = None
        run.final = final
        # Released before it is reported: who sees the pod ended may bind the next one, which must find it free.
        self._close(run)
        self._ledgers[run.node].drop(run.spec.uid)
        if final is not None:
            self._report(run.spec.uid)
        self._resizer.retry_deferred(run.node)

    def _close(self, run: PodRun) -> None:
        if run.process is not None and self.processes is not None and run.ip:
            run.process.kill()
            self.processes.leave(run.process.place)
            run.ip = ""
        if run.instance is not None and run.instance.row >= 0:
            run.instance.stopping = True
            self.timeline.remove_instance(run.node, run.key)
            run.instance.row = -1
            run.instance.hang_up()
        if run.listener is not None:
            run.listener.close()
            run.listener = None
            self._addresses.give_back(run.ip)


def _in_effect(pod: Json) -> tuple[Json, ...] | None:
    """The resources that a restarted pod's containers had in effect, by its status; None if that does not tell of every container.

    The pod starts with these, and a resize that was pending is then requested again.
    """
    found = tuple((status.get("resources") or {}) for status in (pod.get("status") or {}).get("containerStatuses") or [])
    return found if len(found) == len(pod["spec"]["containers"]) and all(found) else None
