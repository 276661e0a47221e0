"""What the controllers of a real cluster do about nodes: they notice kubelets that are silent, taint nodes by conditions, and evict pods by
NoExecute taints.

    kubelet renews its lease ─► heard of ─── silent for 50 s ─► conditions Unknown, its pods not ready
    conditions, cordon ─► taints ─► NoExecute ones ─► pods deleted, at once or after their tolerationSeconds

Sources: Kubernetes documentation, "Nodes", "Leases", "Taints and Tolerations", "Taint based Evictions" and "Taint Nodes by Condition";
kubernetes, pkg/controller/nodelifecycle/node_lifecycle_controller.go and pkg/controller/tainteviction/taint_eviction.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from tango.domain.node_selection import tolerates
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.objects import Objects, now
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.storage import Key, Stored, StoredChange
from tango.emulation.scheduled_calls import CallLater, Timer

Json = dict[str, Any]
log = structlog.get_logger()
OF_CONDITIONS = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
CORDONED = "node.kubernetes.io/unschedulable"
OF_READY = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}
"""Taints of a node by the status of its condition Ready, each with both effects."""
MANAGED = frozenset((*OF_CONDITIONS.values(), CORDONED, *OF_READY.values()))
MONITOR_EVERY_S = 5.0
"""Seconds between two looks for kubelets that are silent (--node-monitor-period)."""
GRACE_S, STARTUP_GRACE_S = 50.0, 60.0
"""Seconds without a sign of a kubelet after which its node is Unknown (--node-monitor-grace-period), and of one that has never posted a
status (--node-startup-grace-period)."""
SILENT = ("NodeStatusUnknown", "Kubelet stopped posting node status.")
NEVER = ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
"""Reason and message of the conditions of such a node."""
UNKNOWN = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
"""Conditions that nobody knows of it any more."""


class NodeLifecycle:
    """The controllers of one cluster, from its making on; `call_later` and `clock` as asyncio's and `time.monotonic`."""

    def __init__(
        self,
        objects: Objects,
        call_later: CallLater,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._call_later = call_later
        self._clock = clock
        self._leases = objects.storage.of(BY_PLACE["coordination.k8s.io", "v1", "leases"])
        self._heard: dict[str, tuple[tuple[str, str], float]] = {}
        """By node: the last signs of its kubelet, and when the controller first saw them."""
        self._monitored_at_s = clock()
        self._nodes = objects.storage.of(BY_PLACE["", "v1", "nodes"])
        self._pods = objects.storage.of(BY_PLACE["", "v1", "pods"])
        self._due: dict[Key, tuple[str, float, float, Timer]] = {}
        """By pod: its uid, when its time began, when it is over, and the timer."""
        self._lasting: dict[str, list[Json]] = {}
        """NoExecute taints by node, of those that have any: nearly all changes of pods find none here and cost nothing more."""
        self._nodes.listeners.add(self._on_node)
        self._pods.listeners.add(self._on_pod)
        for (_, name), stored in list(self._nodes.objects.items()):
            self._taint(name, stored)
            self._look_at_pods(name)
        self._monitor_timer = call_later(MONITOR_EVERY_S, self._monitor)

    def close(self) -> None:
        """Stop: nothing is evicted any more."""
        self._nodes.listeners.discard(self._on_node)
        self._pods.listeners.discard(self._on_pod)
        self._monitor_timer.cancel()
        for *_, timer in self._due.values():
            timer.cancel()

    def _monitor(self) -> None:
        """Look for kubelets of which nothing has been heard for too long. Their clocks do not matter: what counts is when signs change."""
        now_s = self._clock()
        # While this process stood still nobody could be heard.
        missed_s = max(0.0, now_s - self._monitored_at_s - 2 * MONITOR_EVERY_S)
        self._monitored_at_s = now_s
        for (_, name), stored in list(self._nodes.objects.items()):
            ready = _conditions(stored.item).get("Ready") or {}
            lease = self._leases.objects.get(("kube-node-lease", name))
            renewed = "" if lease is None else str((lease.item.get("spec") or {}).get("renewTime") or "")
            signs = renewed, str(ready.get("lastHeartbeatTime") or "")
            known, at_s = self._heard.get(name, (None, now_s))
            if known != signs:
                self._heard[name] = signs, now_s
                continue
            self._heard[name] = signs, at_s + missed_s
            if now_s - at_s - missed_s > (GRACE_S if ready else STARTUP_GRACE_S) and ready.get("status") != "Unknown":
                self._lose(name, stored)
        self._heard = {name: heard for name, heard in self._heard.items() if ("", name) in self._nodes.objects}
        self._monitor_timer = self._call_later(MONITOR_EVERY_S, self._monitor)

    def _lose(self, name: str, stored: Stored) -> None:
        """A node's kubelet is silent: what it has said of the node is not known any more, and its pods count as not ready."""
        node, at = stored.item, now()
        known = _conditions(node)
        born = node["metadata"].get("creationTimestamp") or at
        changed: dict[str, Json] = {}
        for kind in UNKNOWN:
            reason, message = SILENT if kind in known else NEVER
            of = known.get(kind) or {"type": kind, "lastHeartbeatTime": born}
            changed[kind] = {**of, "status": "Unknown", "reason": reason, "message": message, "lastTransitionTime": at}
        status = {**(node.get("status") or {}), "conditions": list((known | changed).values())}
        try:
            self._objects.storage.put(self._nodes, ("", name), {**node, "metadata": dict(node["metadata"]), "status": status})
            for key, pod in list(self._pods.objects.items()):
                if pod.item["spec"].get("nodeName") == name:
                    self._not_ready(key, pod.item)
        except OSError as error:  # the journal takes no write now; the next look finds the same
            log.warning("node_loss_waits", node=name, error=str(error))
            return
        log.warning("node_unreachable", node=name)

    def _not_ready(self, key: Key, pod: Json) -> None:
        status = pod.get("status") or {}
        conditions = status.get("conditions") or []
        if not any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
            return
        changed = [{**c, "status": "False", "lastTransitionTime": now()} if c.get("type") == "Ready" else c for c in conditions]
        body = {**pod, "metadata": dict(pod["metadata"]), "status": {**status, "conditions": changed}}
        self._objects.storage.put(self._pods, key, body)

    def _on_node(self, change: StoredChange) -> None:
        name = change.key[1]
        if change.gone:
            self._lasting.pop(name, None)
            return
        self._taint(name, change.after)
        if change.before is None or _lasting(change.before.item) != _lasting(change.after.item):
            self._look_at_pods(name)

    def _on_pod(self, change: StoredChange) -> None:
        if change.gone:
            self._spare(change.key)
        elif self._lasting or self._due:
            taints = self._lasting.get(change.after.item["spec"].get("nodeName") or "", [])
            if taints or change.key in self._due:
                self._look(change.key, change.after.item, taints)

    def _taint(self, name: str, stored: Stored) -> None:
        """Make the taints that follow from conditions and cordon be there, and those that no longer follow be gone."""
        node = stored.item
        if self._nodes.objects.get(("", name)) is not stored:
            return  # a later change will be told too
        spec = node.get("spec") or {}
        conditions = _conditions(node)
        keys = [key for kind, key in OF_CONDITIONS.items() if conditions.get(kind, {}).get("status") == "True"]
        wanted = [(key, "NoSchedule") for key in (*keys, *([CORDONED] if spec.get("unschedulable") else []))]
        managed = MANAGED
        if "Ready" not in conditions:  # the taint with which it was made stays until its kubelet has posted a status
            managed = MANAGED - set(OF_READY.values())
        elif (key := OF_READY.get(str(conditions["Ready"].get("status")))) is not None:
            wanted += [(key, "NoSchedule"), (key, "NoExecute")]
        taints = spec.get("taints") or []
        kept = [t for t in taints if t.get("key") not in managed or (t["key"], t.get("effect")) in wanted]
        known = {(t.get("key"), t.get("effect")) for t in kept}
        missing = [{"key": key, "effect": effect, "timeAdded": now()} for key, effect in wanted if (key, effect) not in known]
        if missing or len(kept) != len(taints):
            changed = {**node, "metadata": dict(node["metadata"]), "spec": {**spec, "taints": [*kept, *missing]}}
            self._objects.storage.put(self._nodes, ("", name), changed)

    def _look_at_pods(self, node: str) -> None:
        found = self._nodes.objects.get(("", node))
        taints = _lasting(found.item) if found is not None else []
        if taints:
            self._lasting[node] = taints
        else:
            self._lasting.pop(node, None)
        for key, stored in list(self._pods.objects.items()):
            if stored.item["spec"].get("nodeName") == node:
                self._look(key, stored.item, taints)

    def _look(self, key: Key, pod: Json, taints: list[Json]) -> None:
        """Set, move or cancel the end of a pod on a node with these NoExecute taints."""
        over = pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        left_s = None if over or not taints else seconds_left(taints, pod["spec"].get("tolerations") or [])
        if left_s is None:
            self._spare(key)
            return
        uid, now_s = pod["metadata"]["uid"], self._clock()
        began_s, due_s = now_s, now_s + left_s
        if key in self._due:
            # The time that a pod has goes on from the first taint; a later taint may shorten it.
            known_uid, known_began_s, known_due_s, timer = self._due[key]
            if known_uid == uid:
                began_s, due_s = known_began_s, min(known_due_s, due_s)
                if due_s == known_due_s:
                    return
            timer.cancel()
        self._due[key] = (uid, began_s, due_s, self._call_later(max(0.0, due_s - now_s), lambda: self._evict(key, uid)))

    def _spare(self, key: Key) -> None:
        if (known := self._due.pop(key, None)) is not None:
            known[3].cancel()

    def _evict(self, key: Key, uid: str) -> None:
        """Delete a pod gracefully, with the condition that tells why."""
        self._due.pop(key, None)
        stored = self._pods.objects.get(key)
        if stored is None or stored.item["metadata"]["uid"] != uid:
            return
        pod = stored.item
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": now(),
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        others = [c for c in (pod.get("status") or {}).get("conditions") or [] if c.get("type") != condition["type"]]
        try:
            status = {**(pod.get("status") or {}), "conditions": [*others, condition]}
            self._objects.storage.put(self._pods, key, {**pod, "metadata": dict(pod["metadata"]), "status": status})
            self._objects.delete(self._pods, key, {"preconditions": {"uid": uid}}, dry=False)
        except (OSError, Refused) as error:  # the journal takes no write now
            log.warning("taint_eviction_waits", pod=key[1], error=str(error))
            self._due[key] = (uid, self._clock(), self._clock(), self._call_later(1.0, lambda: self._evict(key, uid)))


def seconds_left(taints: list[Json], tolerations: list[Json]) -> float | None:
    """How long a pod with these tolerations may stay on a node with these NoExecute taints; None: for ever, 0: not at all."""
    used: list[Json] = []
    for taint in taints:
        matching = [t for t in tolerations if tolerates(t, taint)]
        if not matching:
            return 0.0
        used += matching
    limits = [float(max(0, t["tolerationSeconds"])) for t in used if t.get("tolerationSeconds") is not None]
    return min(limits) if limits else None


def _conditions(node: Json) -> dict[str, Json]:
    """The node's conditions by their type."""
    return {str(c.get("type")): c for c in (node.get("status") or {}).get("conditions") or []}


def _lasting(node: Json) -> list[Json]:
    return [t for t in (node.get("spec") or {}).get("taints") or [] if t.get("effect") == "NoExecute" and t.get("key")]


def started(objects: Objects) -> NodeLifecycle:
    """The controllers on the running asyncio loop."""
    return NodeLifecycle(objects, asyncio.get_running_loop().call_later)
