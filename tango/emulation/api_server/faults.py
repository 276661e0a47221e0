"""Fault injection, for tests and rehearsals: refuse, fail or delay calls, drop their connections, or end watches.

Users in `system:masters` set the rules at `/__faults`, PUT with a JSON list, and clear them by DELETE. A rule is
`{"fault": "429"|"500"|"latency"|"drop"|"cut-watches", "verb": "create"?, "path": substring?, "count": n?, "probability": p?,
"seconds": s?}`; keys with a question mark are optional.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import orjson

from tango.emulation.api_server.failures import Refused, bad_request
from tango.emulation.api_server.forms import Form, require_form

KINDS = ("429", "500", "latency", "drop", "cut-watches")
RULE: dict[str, Form] = {"fault": str, "verb": str, "path": str, "count": int, "probability": (int, float), "seconds": (int, float)}
EXPECTED = (
    'a list of rules such as {"fault": "500", "verb": "create", "path": "pods", "count": 1, "probability": 0.5, "seconds": 1}'
)


@dataclass(slots=True)
class Rule:
    """One fault and the calls that it applies to."""

    fault: str
    """One of `KINDS`."""
    verb: str = ""
    """Verb of the API such as `create`; empty: any."""
    path: str = ""
    """A part of the call's path; empty: any."""
    count: int = -1
    """Calls that still meet the fault; -1: without limit."""
    probability: float = 1.0
    """Chance that a matching call meets the fault."""
    seconds: float = 0.0
    """Delay, for `latency`."""


class Faults:
    """The fault rules in force."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
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
        self.rules = [Rule(**{key: value for key, value in rule.items() if value is not None}) for rule in rules]

    def clear(self) -> None:
        """Drop all rules."""
        self.rules = []

    def struck(self, verb: str, path: str) -> Rule | None:
        """The first rule that applies to a call, its `count` lowered by one; None if there is none."""
        for rule in self.rules:
            if rule.count == 0 or rule.fault == "cut-watches" or (rule.verb and rule.verb != verb) or rule.path not in path:
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            rule.count -= rule.count > 0
            return rule
        return None


def refusal(rule: Rule) -> Refused:
    """The response of a 429 or 500 rule."""
    if rule.fault == "429":
        return Refused(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
            details={"retryAfterSeconds": 1},
            headers={"Retry-After": "1"},
        )
    return Refused(500, "InternalError", "Internal error occurred: injected fault")
