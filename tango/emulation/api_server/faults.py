"""Fault injection, for tests and rehearsals: refuse, fail or delay calls, drop their connections, end watches, forget history.

Users in `system:masters` set the rules at `/__faults`, PUT with a JSON list, and clear them by DELETE. A rule is
`{"fault": one of `KINDS`, "verb": "create"?, "path": substring?, "user": name?, "count": n?, "probability": p?, "seconds": s?}`; keys
with a question mark are optional. `/__faults` itself meets none, and `rbac` no user in `system:masters`, as in a real cluster.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from tango.emulation.api_server.failures import Refused, bad_request
from tango.emulation.api_server.forms import Form, require_form

REFUSALS = ("401", "429", "500", "503", "rbac", "service-account", "webhook", "webhook-away", "policy", "flow-control")
AT_ONCE = ("cut-watches", "compact")
"""These happen once, when the rules are set; a rule of this kind matches no call."""
STANDING = ("bookmarks", "older-resize")
"""These change how the server works while they stand, whatever the call."""
KINDS = (*REFUSALS, "latency", "drop", *AT_ONCE, *STANDING)
RULE: dict[str, Form] = {
    "fault": str,
    "verb": str,
    "path": str,
    "user": str,
    "count": int,
    "probability": (int, float),
    "seconds": (int, float),
}
EXPECTED = (
    'a list of rules such as {"fault": "500", "verb": "create", "path": "pods", "user": "tango", "count": 1, "probability": 0.5, '
    '"seconds": 1}'
)


@dataclass(slots=True)
class FaultRule:
    """One fault and the calls that it applies to."""

    fault: str
    """One of `KINDS`."""
    verb: str = ""
    """Verb of the API such as `create`; empty: any."""
    path: str = ""
    """A part of the call's path; empty: any."""
    user: str = ""
    """Name of the user; empty: any."""
    count: int = -1
    """Calls that still meet the fault; -1: without limit."""
    probability: float = 1.0
    """Chance that a matching call meets the fault."""
    seconds: float = 0.0
    """Delay, for `latency`; what Retry-After says, for `429` and `flow-control`; between bookmarks; for `rbac` how long it lasts, 0 for
    as long as the rule stands."""
    over_s: float = math.inf
    """On the clock of `Faults`: when it ends by itself."""


class Faults:
    """The fault rules in force."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules: list[FaultRule] = []
        self._clock = clock
        # Seeded, so that a test with a probability below 1 meets the same faults in every run.
        self._random = random.Random(0)

    def replace(self, raw: bytes) -> None:
        """Replace all rules by those of a JSON list. Raises: Refused 400, with what was expected; the rules stay as they are then."""
        try:
            rules = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"the fault rules are no JSON: {error}; expected {EXPECTED}") from error
        if not isinstance(rules, list):
            raise bad_request(f"the fault rules are no list, expected {EXPECTED}")
        for k, rule in enumerate(rules):
            require_form(rule, RULE, at=f"rule {k}")
            if rule is None or not rule.keys() <= RULE.keys():
                raise bad_request(f"rule {k} is {orjson.dumps(rule).decode()}, expected {EXPECTED}")
            if rule.get("fault") not in KINDS:
                raise bad_request(f"rule {k}: fault is {rule.get('fault')!r}, expected one of: {', '.join(KINDS)}")
            if not 0 <= (rule.get("probability") or 0.0) <= 1 or not 0 <= (rule.get("seconds") or 0.0) < math.inf:
                raise bad_request(f"rule {k}: expected a probability from 0 to 1, and seconds of at least 0")
        self.rules = []
        for rule in rules:
            self.add(FaultRule(**{key: value for key, value in rule.items() if value is not None}))

    def add(self, rule: FaultRule) -> None:
        """Put another rule in force."""
        if rule.fault == "rbac" and rule.seconds:
            rule.over_s = self._clock() + rule.seconds
        self.rules.append(rule)

    def clear(self) -> None:
        """Drop all rules."""
        self.rules = []

    def struck(self, verb: str, path: str, user: str = "", *, early: bool = False, is_master: bool = False) -> FaultRule | None:
        """The first rule that applies to a call, its `count` lowered by one; None if there is none.

        `early`: of those that come before the check of permissions, else of the others.
        """
        for rule in self.rules:
            if rule.count == 0 or rule.fault in AT_ONCE or rule.fault in STANDING or (rule.fault in ("401", "rbac")) is not early:
                continue
            if (rule.verb and rule.verb != verb) or rule.path not in path or (rule.user and rule.user != user):
                continue
            if rule.fault == "rbac" and (is_master or self._clock() >= rule.over_s):
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            rule.count -= rule.count > 0
            return rule
        return None

    def standing(self, fault: str) -> FaultRule | None:
        """The rule of `STANDING` that is in force; None if there is none."""
        return next((rule for rule in self.rules if rule.fault == fault), None)


def refusal(rule: FaultRule, *, verb: str, resource: str, group: str, name: str, namespace: str, user: str) -> Refused:
    """The response of a rule among `REFUSALS` to a call, as a real server or what stands before it words it."""
    kind = resource.split("/")[0]
    shown, details = f'{kind} "{name}"' if name else kind, {"kind": kind} | ({"name": name} if name else {})
    after_s = max(1, math.ceil(rule.seconds))
    if rule.fault == "401":
        return Refused(401, "Unauthorized", "Unauthorized")
    if rule.fault == "rbac":
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        words = f'User "{user}" cannot {verb} resource "{resource}" in API group "{group}"{where}: RBAC: not yet synchronized'
        return Refused(403, "Forbidden", f"{shown} is forbidden: {words}", details=details)
    if rule.fault == "service-account":
        words = f'error looking up service account {namespace}/default: serviceaccount "default" not found'
        return Refused(403, "Forbidden", f"{shown} is forbidden: {words}", details=details)
    if rule.fault == "webhook":
        return Refused(403, "Forbidden", 'admission webhook "policy.example.com" denied the request: not in this cluster')
    if rule.fault == "webhook-away":
        words = (
            'failed calling webhook "policy.example.com": failed to call webhook: Post "https://policy": context deadline exceeded'
        )
        return Refused(500, "InternalError", f"Internal error occurred: {words}", details={"causes": [{"message": words}]})
    if rule.fault == "policy":
        words = "ValidatingAdmissionPolicy 'not-here' with binding 'all' denied request: failed expression: false"
        return Refused(422, "Invalid", f"{shown} is forbidden: {words}", details={**details, "causes": [{"message": words}]})
    if rule.fault == "flow-control":
        # API priority and fairness answers before any object is known, in plain text.
        headers = {"Retry-After": str(after_s), "X-Kubernetes-Pf-Prioritylevel-Uid": "workload-low"}
        return Refused(429, "", "Too many requests, please try again later.\n", headers=headers, is_plain=True)
    if rule.fault == "429":
        return Refused(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
            details={"retryAfterSeconds": after_s},
            headers={"Retry-After": str(after_s)},
        )
    if rule.fault == "503":
        return Refused(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    return Refused(500, "InternalError", "Internal error occurred: injected fault")
