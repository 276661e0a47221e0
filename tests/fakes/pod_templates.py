"""Pod templates as people have them, for tests of what Tango makes of them."""

from __future__ import annotations

import copy
from typing import Any

from tango.domain.pod_templates import canonical_template
from tango.domain.services import Service, ServiceClass

Json = dict[str, Any]

API: Json = {
    "metadata": {"labels": {"app": "my-api"}, "annotations": {"team": "vision"}},
    "spec": {
        "serviceAccountName": "my-api",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 20,
        "securityContext": {"runAsNonRoot": True},
        "volumes": [{"name": "models", "emptyDir": {}}],
        "initContainers": [
            {"name": "fetch", "image": "fetch:1", "resources": {"requests": {"cpu": "2", "memory": "64Mi"}}},
            {
                "name": "mesh",
                "image": "mesh:1",
                "restartPolicy": "Always",
                "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}},
            },
        ],
        "containers": [
            {
                "name": "log",
                "image": "log:1",
                "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "20m", "memory": "16Mi"}},
            },
            {
                "name": "api",
                "image": "registry.example/my-api:2.1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "my_api"],
                "args": ["--workers", "4"],
                "env": [
                    {"name": "MODE", "value": "fast"},
                    {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "my-api"}}],
                "ports": [{"containerPort": 9090, "name": "metrics"}, {"containerPort": 8081, "name": "http"}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                "resources": {"requests": {"memory": "200Mi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "1500m"}},
            },
        ],
    },
}
"""An LC service with sidecars, whose own container is not the first."""

JOB: Json = {"spec": {"containers": [{"name": "transcode", "image": "transcode:3", "args": ["--preset", "fast"]}]}}
"""The least that a job needs."""


def changed(template: Json, *path: str | int, to: Any) -> Json:
    """A copy with the value at a path replaced, or added."""
    copied = copy.deepcopy(template)
    place: Any = copied
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return copied


def api_service(template: Json = API, **fields: Any) -> Service:
    """An LC service of a template, as `tango service apply` would make it of a document that names the container `api`."""
    values: dict[str, Any] = {
        "name": "my-api",
        "service_class": ServiceClass.LC,
        "cpu_work_s": 0.05,
        "memory_mib": 25,
        "target_ms": 200.0,
        "instance_memory_mib": 200,
        "cpu_request_millicores": 100,
        "cpu_limit_millicores": 1500,
        "port": 8081,
        "template": canonical_template(template),
        "container": "api",
    }
    return Service(**(values | fields))


def job_service(template: Json = JOB, **fields: Any) -> Service:
    """A BE service of a template."""
    values: dict[str, Any] = {
        "name": "transcode",
        "service_class": ServiceClass.BE,
        "cpu_work_s": 60.0,
        "memory_mib": 512,
        "template": canonical_template(template),
        "container": "transcode",
    }
    return Service(**(values | fields))
