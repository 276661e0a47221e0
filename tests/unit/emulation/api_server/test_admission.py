"""What a cluster's owner demands of pods: LimitRange, ResourceQuota, Pod Security, PriorityClass; beyond the recorded answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tango.emulation.api_server.admission.pod_security import violations
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.objects import Objects
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.storage import Storage

Json = dict[str, Any]
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Server:
    """The verbs of one API server, by the plural name of a resource."""

    def __init__(self) -> None:
        self.storage = Storage(ObjectLog(None), history=1000)
        self.objects = Objects(self.storage)

    def make(self, name: str, body: Json, group: str = "", version: str = "v1") -> Json:
        """Create in namespace `default`, or without a namespace."""
        resource = BY_PLACE[group, version, name]
        place = "default" if resource.namespaced else None
        found: Json = json.loads(self.objects.create(self.storage.of(resource), place, body, dry=False).body)
        return found

    def warnings(self, body: Json) -> tuple[str, ...]:
        """Those of creating a pod."""
        return self.objects.create(self.storage.of(BY_PLACE["", "v1", "pods"]), "default", body, dry=True).warnings

    def read(self, name: str, key: str) -> Json:
        """An object of namespace `default`."""
        return self.objects.find(self.storage.of(BY_PLACE["", "v1", name]), ("default", key)).item

    def change(self, name: str, key: str, part: Mapping[str, Any], subresource: str = "") -> None:
        """Put other parts in place of an object's own."""
        collection = self.storage.of(BY_PLACE["", "v1", name])
        self.objects.update(collection, ("default", key), subresource, lambda old: {**old, **part}, False, key)

    def delete(self, name: str, key: str) -> None:
        """Without grace."""
        self.objects.delete(self.storage.of(BY_PLACE["", "v1", name]), ("default", key), {"gracePeriodSeconds": 0}, False)


def pod(name: str, *, requests: Json | None = None, limits: Json | None = None, **spec: Any) -> Json:
    """A pod of one container."""
    resources = {k: v for k, v in (("requests", requests), ("limits", limits)) if v}
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}], **spec}}


def limits_of(kind: str, **parts: Json) -> Json:
    """A LimitRange of one item."""
    return {"metadata": {"name": "lr"}, "spec": {"limits": [{"type": kind, **parts}]}}


def test_limits_follow_from_a_maximum_and_requests_from_limits() -> None:
    """As the documentation says of what a LimitRange leaves open; the pod tells what was filled in."""
    server = Server()
    made = server.make("limitranges", limits_of("Container", max={"cpu": "1"}, min={"memory": "32Mi"}))

    filled = server.make("pods", pod("a", limits={"memory": "64Mi"}))

    assert made["spec"]["limits"][0]["default"] == {"cpu": "1"}
    assert made["spec"]["limits"][0]["defaultRequest"] == {"cpu": "1", "memory": "32Mi"}
    assert filled["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1", "memory": "64Mi"},
        "requests": {"cpu": "1", "memory": "64Mi"},
    }
    assert "limit for container c" in filled["metadata"]["annotations"]["kubernetes.io/limit-ranger"]


@pytest.mark.parametrize(
    ("item", "body", "words"),
    [
        (
            limits_of("Container", min={"cpu": "100m"}),
            pod("a", requests={"cpu": "50m"}),
            "minimum cpu usage per Container is 100m, but",
        ),
        (limits_of("Pod", max={"memory": "1Gi"}), pod("a"), "maximum memory usage per Pod is 1Gi.  No limit is specified"),
        (
            limits_of("Container", maxLimitRequestRatio={"cpu": "2"}),
            pod("a", limits={"cpu": "0"}),
            "no request is specified or request is 0",
        ),
    ],
)
def test_a_pod_beyond_the_bounds_of_a_namespace_is_forbidden(item: Json, body: Json, words: str) -> None:
    """With the words of the real server."""
    server = Server()
    server.make("limitranges", item)

    with pytest.raises(Refused, match=words) as refused:
        server.make("pods", body)

    assert refused.value.code == 403


def test_what_ends_or_is_deleted_is_free_for_others() -> None:
    """A pod that has ended counts for its number of objects alone; the quota's status tells both."""
    server = Server()
    server.make("pods", pod("before", requests={"cpu": "100m"}))
    server.make("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "300m", "count/pods": "3"}}})
    server.make("pods", pod("a", requests={"cpu": "200m"}))

    with pytest.raises(Refused, match=r"exceeded quota: q, requested: requests.cpu=1m, used: requests.cpu=300m, limited"):
        server.make("pods", pod("b", requests={"cpu": "1m"}))
    server.change("pods", "before", {"status": {"phase": "Succeeded"}}, "status")

    assert server.read("resourcequotas", "q")["status"]["used"] == {"requests.cpu": "200m", "count/pods": "2"}
    server.make("pods", pod("b", requests={"cpu": "100m"}))
    server.delete("pods", "a")
    assert server.read("resourcequotas", "q")["status"]["used"] == {"requests.cpu": "100m", "count/pods": "2"}


def test_a_quota_counts_memory_and_objects_of_other_kinds_and_stands_in_the_way_of_growth() -> None:
    """Also of a resize, by what it adds alone."""
    server = Server()
    hard = {"limits.memory": "128Mi", "configmaps": "1", "count/leases.coordination.k8s.io": "5"}
    server.make("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    server.make("pods", pod("a", limits={"memory": "96Mi"}, requests={"memory": "32Mi"}))
    server.make("configmaps", {"metadata": {"name": "m"}})

    with pytest.raises(Refused, match="exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"):
        server.make("configmaps", {"metadata": {"name": "n"}})
    grown = pod("a", limits={"memory": "160Mi"}, requests={"memory": "32Mi"})
    with pytest.raises(Refused, match=r"exceeded quota: q, requested: limits.memory=64Mi, used: limits.memory=96Mi"):
        server.change("pods", "a", {"spec": grown["spec"]}, "resize")

    used = server.read("resourcequotas", "q")["status"]["used"]
    assert used == {"limits.memory": "96Mi", "configmaps": "1", "count/leases.coordination.k8s.io": "0"}


def test_a_quota_with_scopes_speaks_of_the_pods_in_them_alone() -> None:
    """By priority class, and by quality of service."""
    server = Server()
    server.make("priorityclasses", {"metadata": {"name": "low"}, "value": -1}, "scheduling.k8s.io")
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]}
    server.make("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}, "scopeSelector": selector}})
    server.make("resourcequotas", {"metadata": {"name": "r"}, "spec": {"hard": {"pods": "0"}, "scopes": ["BestEffort"]}})
    server.make("pods", pod("a", priorityClassName="low", requests={"cpu": "1m"}))

    with pytest.raises(Refused, match="exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"):
        server.make("pods", pod("b", priorityClassName="low", requests={"cpu": "1m"}))
    with pytest.raises(Refused, match="exceeded quota: r"):
        server.make("pods", pod("c"))

    server.make("pods", pod("d", requests={"cpu": "1m"}))


@pytest.mark.parametrize(
    ("resource", "spec"), [("resourcequotas", {"hard": {"pods": "many"}}), ("limitranges", {"limits": [{"max": {"cpu": "1x"}}]})]
)
def test_a_rule_with_a_malformed_quantity_is_refused_before_any_pod_meets_it(resource: str, spec: Json) -> None:
    """When it is made, and when it is changed."""
    server = Server()
    with pytest.raises(Refused, match="quantities must match") as made:
        server.make(resource, {"metadata": {"name": "r"}, "spec": spec})
    server.make(resource, {"metadata": {"name": "r"}, "spec": {}})

    with pytest.raises(Refused, match="quantities must match"):
        server.change(resource, "r", {"spec": spec})

    assert made.value.code == 400
    server.make("pods", pod("a"))


def test_pods_without_a_class_have_that_of_the_cluster() -> None:
    """There is one such class at most, and what a pod has got of it stays when the class goes."""
    server = Server()
    server.make("priorityclasses", {"metadata": {"name": "usual"}, "value": 7, "globalDefault": True}, "scheduling.k8s.io")

    with pytest.raises(Refused, match="PriorityClass usual is already marked as default") as second:
        server.make("priorityclasses", {"metadata": {"name": "too"}, "value": 8, "globalDefault": True}, "scheduling.k8s.io")
    made = server.make("pods", pod("a"))["spec"]
    critical = server.make("pods", pod("b", priorityClassName="system-node-critical"))["spec"]

    assert second.value.code == 403
    assert (made["priorityClassName"], made["priority"], made["preemptionPolicy"]) == ("usual", 7, "PreemptLowerPriority")
    assert critical["priority"] == 2_000_001_000
    with pytest.raises(Refused, match="the string value of PreemptionPolicy"):
        server.make("pods", pod("c", preemptionPolicy="Never"))


def test_baseline_lets_usual_pods_pass_and_restricted_names_volumes_and_users() -> None:
    """Nothing is left of a pod that says all that is asked."""
    usual: Json = {"containers": [{"name": "c"}]}
    good: Json = {"containers": [{"name": "c", "securityContext": RESTRICTED}], "volumes": [{"name": "v", "emptyDir": {}}]}
    risky: Json = {
        "hostNetwork": True,
        "containers": [{"name": "c", "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }

    assert violations(usual, "baseline") == []
    assert violations(good, "restricted") == []
    assert violations(risky, "privileged") == []
    assert violations(risky, "baseline") == [
        'non-default capabilities (container "c" must not include "SYS_ADMIN" in securityContext.capabilities.add)',
        "host namespaces (hostNetwork=true)",
        'hostPath volumes (volume "v")',
        'privileged (container "c" must not set securityContext.privileged=true)',
    ]
    assert any("restricted volume types (volume" in text for text in violations(risky, "restricted"))
    root = {**good, "containers": [{"name": "c", "securityContext": {**RESTRICTED, "runAsUser": 0}}]}
    assert violations(root, "restricted") == ['runAsUser=0 (container "c" must not set runAsUser=0)']


def test_a_namespace_that_warns_lets_the_pod_pass() -> None:
    """And tells whoever made it."""
    server = Server()
    namespaces = server.storage.of(BY_PLACE["", "v1", "namespaces"])
    labels = {"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "v1.35"}
    change = {"metadata": {"name": "default", "labels": labels}}
    server.objects.update(namespaces, ("", "default"), "", lambda old: {**old, **change}, False, "default")

    warnings = server.warnings(pod("a"))

    assert len(warnings) == 1
    assert warnings[0].startswith('would violate PodSecurity "restricted:v1.35": allowPrivilegeEscalation != false')
    wrong = {"metadata": {"name": "default", "labels": {"pod-security.kubernetes.io/enforce": "strict"}}}
    with pytest.raises(Refused, match="must be one of privileged, baseline, restricted"):
        server.objects.update(namespaces, ("", "default"), "", lambda old: {**old, **wrong}, False, "default")
