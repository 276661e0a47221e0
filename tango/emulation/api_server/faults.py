"""Fault injection, for tests and rehearsals: refuse, fail or delay calls, drop their connections, or end watches.

Users in `system:masters` set the rules at `/__faults`, PUT with a JSON list, and clear them by DELETE. A rule is
`{"fault": "429"|"500"|"latency"|"drop"|"cut-watches", "verb": "create"?, "path": substring?, "count": n?, "probability": p?,
"seconds": s?}`; keys with a question mark are optional.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tango.emulation.api_server.failures import Refused, bad_request

KINDS = ("429", "500", "latency", "drop", "cut-watches")


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

    def replace(self, rules: Any) -> None:
        """Replace all rules by those of a JSON list. Raises: Refused 400 for a malformed rule or an unknown fault."""
        try:
            found = [Rule(**rule) for rule in rules]
        except TypeError as error:
            raise bad_request(f"a fault rule is wrong: {error}") from error
        unknown = [rule.fault for rule in found if rule.fault not in KINDS]
        if unknown:
            raise bad_request(f"unknown faults {unknown}; known: {', '.join(KINDS)}")
        self.rules = found

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
