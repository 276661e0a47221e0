"""Answers of real API servers, by what they are about."""

from __future__ import annotations

from typing import Any

import pytest

from tango.domain.refusal_kind import RefusalKind
from tango.errors import ClusterUnavailable, Conflict, Forbidden, Invalid, TangoError
from tango.kube.cluster_calls import _outcome_of
from tango.kube.refusal_kinds import refusal_kind

POD = 'pods "be-r1-2-e1" is forbidden: '


def status(message: str, *, kind: str = "pods", causes: tuple[str, ...] = ()) -> dict[str, Any]:
    """A `Status` object."""
    return {"message": message, "details": {"kind": kind, "causes": [{"reason": cause} for cause in causes]}}


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (401, status("Unauthorized"), RefusalKind.CREDENTIALS),
        (
            403,
            status(
                POD
                + 'User "system:serviceaccount:tango:tango" cannot create resource "pods" in API group "" in the namespace "tango"'
            ),
            RefusalKind.PERMISSION,
        ),
        (
            403,
            status(
                'nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope: RBAC: not found'
            ),
            RefusalKind.PERMISSION,
        ),
        (403, status('forbidden: User "system:anonymous" cannot get path "/api/v1"'), RefusalKind.PERMISSION),
        (403, status(POD + "exceeded quota: compute, requested: pods=1, used: pods=3, limited: pods=3"), RefusalKind.QUOTA),
        (403, status(POD + "failed quota: compute: must specify limits.cpu for: work"), RefusalKind.QUOTA),
        (409, status("Operation cannot be fulfilled on resourcequotas", kind="resourcequotas"), RefusalKind.QUOTA),
        (403, status(POD + "[maximum cpu usage per Container is 500m, but limit is 2]"), RefusalKind.ADMISSION),
        (
            403,
            status(
                POD + 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "work" must set ...)'
            ),
            RefusalKind.ADMISSION,
        ),
        (403, status(POD + "no PriorityClass with name low was found"), RefusalKind.ADMISSION),
        (400, status('admission webhook "images.example.com" denied the request: not signed'), RefusalKind.ADMISSION),
        (
            422,
            status("pods is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
            RefusalKind.ADMISSION,
        ),
        (500, status('Internal error occurred: failed calling webhook "w": Post ...: connection refused'), RefusalKind.ADMISSION),
        (
            403,
            status(
                POD + "unable to create new content in namespace t because it is being terminated",
                causes=("NamespaceTerminating",),
            ),
            RefusalKind.NAMESPACE,
        ),
        (
            403,
            status(POD + 'error looking up service account tango/default: serviceaccount "default" not found'),
            RefusalKind.NAMESPACE,
        ),
        (404, status('namespaces "tango" not found', kind="namespaces"), RefusalKind.NAMESPACE),
        (429, status("too many requests"), RefusalKind.THROTTLED),
        # About the call alone.
        (429, status("Cannot evict pod", causes=("DisruptionBudget",)), None),
        (403, status(POD + "requests exceed the node", causes=("NodeCapacity",)), None),
        (404, status('pods "x" not found'), None),
        (409, status('pods "x" already exists'), None),
        (422, status('Pod "x" is invalid: spec.containers[0].image: Required value'), None),
        (500, status("etcdserver: leader changed"), None),
        (400, {"message": None, "details": None}, None),
    ],
)
def test_what_an_answer_is_about(code: int, body: dict[str, Any], kind: RefusalKind | None) -> None:
    """By status, reason, causes and the server's words."""
    assert refusal_kind(code, body) is kind


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Forbidden("403", status=403, refusal="permission"), "refused"),
        (Forbidden("401", status=401, refusal="credentials"), "refused"),
        (Forbidden("403", status=403, refusal="quota"), "refused"),
        (Forbidden("403", status=403, reason="Forbidden"), "infeasible"),
        (Invalid("422", status=422), "infeasible"),
        (Conflict("409", status=409), "error"),
        (ClusterUnavailable("silence"), "error"),
    ],
)
def test_only_an_answer_about_the_size_is_one_for_good(error: TangoError, outcome: str) -> None:
    """Of a resize: a token that has expired says nothing of what the node can hold."""
    assert _outcome_of(error) == outcome
