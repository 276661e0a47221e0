"""Which answers of an API server are about the cluster, or about a service there, and not about the call. The one classifier.

The messages are those of Kubernetes 1.33 to 1.36: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go (RBAC),
plugin/pkg/admission/resourcequota, pkg/admission/limitranger, pod-security-admission/admission (Pod Security),
staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors and .../plugin/policy/validating.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tango.domain.refusal_kind import RefusalKind

_BY_ADMISSION = re.compile(
    r"admission webhook .* denied the request|ValidatingAdmissionPolicy .* denied request|violates PodSecurity"
)
_BY_QUOTA = re.compile(r"(exceeded|failed) quota")
_BY_AUTHORIZER = re.compile(r'\bcannot \S+ (resource|path)\b|RBAC: |^User "|: User "')
_NO_NAMESPACE = re.compile(
    r"because it is being terminated|error looking up service account|no API token found for service account"
)
_WEBHOOK_AWAY = re.compile(r"failed calling webhook|failed to call webhook")


def refusal_kind(status: int, body: Mapping[str, Any]) -> RefusalKind | None:
    """What an answer of this HTTP status, with this `Status` object, says; None: only that this call was refused.

    A resize beyond the node (403 with the cause `NodeCapacity`) and an eviction that a budget forbids (429 with `DisruptionBudget`) are
    about the call.
    """
    message, details = str(body.get("message") or ""), body.get("details") or {}
    causes = {cause.get("reason") for cause in details.get("causes") or []}
    if status == 401:
        return RefusalKind.CREDENTIALS
    if status == 429:
        return None if "DisruptionBudget" in causes else RefusalKind.THROTTLED
    if (400 <= status < 500 and _BY_ADMISSION.search(message)) or (status >= 500 and _WEBHOOK_AWAY.search(message)):
        return RefusalKind.ADMISSION
    if status == 404:
        return RefusalKind.NAMESPACE if details.get("kind") == "namespaces" else None
    if status == 409:
        # Two pods of one quota at the same time: the server gives up after some tries of its own.
        return RefusalKind.QUOTA if details.get("kind") == "resourcequotas" else None
    if status != 403 or "NodeCapacity" in causes:
        return None
    if _BY_QUOTA.search(message):
        return RefusalKind.QUOTA
    if "NamespaceTerminating" in causes or _NO_NAMESPACE.search(message):
        return RefusalKind.NAMESPACE
    # Whatever else forbids a call that the authorizer has let through is an admission plug-in: LimitRange, Priority, NodeRestriction ...
    return RefusalKind.PERMISSION if _BY_AUTHORIZER.search(message) else RefusalKind.ADMISSION
