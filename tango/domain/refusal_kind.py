"""The kinds of refusals, apart from what is decided by them: whoever calls an API server knows them, node agents without numpy too."""

from __future__ import annotations

from enum import StrEnum


class RefusalKind(StrEnum):
    """What a refusal says."""

    CREDENTIALS = "credentials"
    """401: the token or certificate is not known, or not any more."""
    PERMISSION = "permission"
    """403 by RBAC or another authorizer: the role may not do this, or the server has not loaded its roles yet."""
    NAMESPACE = "namespace"
    """The namespace is missing, being deleted, or has no service account yet."""
    THROTTLED = "throttled"
    """429 by API priority and fairness."""
    UNREACHABLE = "unreachable"
    """No answer, or 5xx, until the retries ran out."""
    QUOTA = "quota"
    """403 by a ResourceQuota."""
    ADMISSION = "admission"
    """By Pod Security, a LimitRange, an admission webhook, an admission policy, or another admission plug-in."""
    NODE = "node"
    """By a kubelet: no room there, a taint, its topology manager, another operating system."""

    @property
    def is_of_service(self) -> bool:
        """Whether it speaks of one service's pods, and not of the whole cluster."""
        return self in (RefusalKind.QUOTA, RefusalKind.ADMISSION, RefusalKind.NODE)

    @property
    def is_of_namespace(self) -> bool:
        """Whether it speaks of one namespace, and not of what the cluster has beside it."""
        return self in (RefusalKind.PERMISSION, RefusalKind.NAMESPACE)
