"""The two calls on a pod's subresources that take an object of another kind: `pods/binding` and `pods/eviction`."""

from __future__ import annotations

from typing import Any

from tango.emulation.api_server.failures import Refused, bad_request, conflict, success
from tango.emulation.api_server.objects import Objects, now
from tango.emulation.api_server.replies import Reply
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.selectors import labels_match
from tango.emulation.api_server.storage import Collection, Key

Json = dict[str, Any]


def bind(objects: Objects, collection: Collection, key: Key, body: Json, dry: bool) -> Reply:
    """Assign a pod to a node. Whether it fits is not checked here but by the kubelet's admission, as in Kubernetes.

    Raises: Refused 404, or 409 for a pod that is bound, gated, being deleted, or not the one of the given uid.
    """
    asked = (body.get("metadata") or {}).get("name")
    if asked and asked != key[1]:
        raise bad_request(f"name in URL does not match name in Binding object: {key[1]} vs {asked}")
    target = body.get("target") or {}
    if not target.get("name"):
        # A real server answers 500 here, without a reason.
        raise Refused(500, "", 'Binding "" is invalid: target.name: Required value')
    stored = objects.find(collection, key)
    pod, metadata = stored.item, stored.item["metadata"]
    uid = (body.get("metadata") or {}).get("uid")
    if uid and uid != metadata["uid"]:
        raise conflict(
            "pods/binding",
            key[1],
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}",
        )
    if metadata.get("deletionTimestamp"):
        raise conflict("pods/binding", key[1], f"pod {key[1]} is being deleted, cannot be assigned to a host")
    if pod["spec"].get("nodeName"):
        raise conflict("pods/binding", key[1], f'pod {key[1]} is already assigned to node "{pod["spec"]["nodeName"]}"')
    if pod["spec"].get("schedulingGates"):
        raise conflict("pods/binding", key[1], f"pod {key[1]} has non-empty .spec.schedulingGates")
    if not dry:
        condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        others = [c for c in pod["status"].get("conditions") or [] if c["type"] != "PodScheduled"]
        bound = {
            **pod,
            "metadata": dict(metadata),
            "spec": {**pod["spec"], "nodeName": target["name"]},
            "status": {**pod["status"], "conditions": [condition, *others]},
        }
        objects.storage.put(collection, key, bound)
    return Reply(success(code=201), 201)


def evict(objects: Objects, collection: Collection, key: Key, body: Json, dry: bool) -> Reply:
    """Delete a pod if every PodDisruptionBudget that selects it allows a disruption. Raises: Refused 429 with the budget that does not."""
    stored = objects.find(collection, key)
    pod = stored.item
    asked = (body.get("metadata") or {}).get("name")
    if asked and asked != key[1]:
        raise bad_request(f"name in URL does not match name in Eviction object: {key[1]} vs {asked}")
    budgets = objects.storage.of(BY_PLACE["policy", "v1", "poddisruptionbudgets"])
    # These pods need no budget, since they are not available anyway (canIgnorePDB in kube-apiserver's registry/core/pod).
    done = pod["status"].get("phase") in ("Pending", "Succeeded", "Failed") or pod["metadata"].get("deletionTimestamp")
    if not done:
        labels = pod["metadata"].get("labels") or {}
        for found in list(budgets.in_order(key[0])):
            if not labels_match((found.item.get("spec") or {}).get("selector"), labels):
                continue
            status = found.item.get("status") or {}
            name = found.item["metadata"]["name"]
            if status.get("disruptionsAllowed", 0) <= 0:
                healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
                raise Refused(
                    429,
                    "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    details={
                        "causes": [
                            {
                                "reason": "DisruptionBudget",
                                "message": f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently",
                            }
                        ]
                    },
                )
            # The budget is spent before the pod is deleted: a second eviction must not be granted on the same allowance.
            if not dry:
                spent = {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1}
                spent["disruptedPods"] = {**(status.get("disruptedPods") or {}), key[1]: now()}
                objects.storage.put(
                    budgets, (key[0], name), {**found.item, "metadata": dict(found.item["metadata"]), "status": spent}
                )
        if not dry:
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": now(),
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            conditions = [*(pod["status"].get("conditions") or []), condition]
            marked = {**pod, "metadata": dict(pod["metadata"]), "status": {**pod["status"], "conditions": conditions}}
            objects.storage.put(collection, key, marked)
    objects.delete(collection, key, body.get("deleteOptions") or {}, dry)
    return Reply(success(code=201), 201)
