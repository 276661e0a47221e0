"""Faults on demand, for tests and rehearsals: refuse, fail, delay, drop, or cut watches.

Rules are set by masters at `/__faults` (PUT a JSON list, DELETE clears): `{"fault": "429"|"500"|"latency"|"drop"|"cut-watches",
"verb": "create"?, "path": substring?, "count": n?, "probability": p?, "seconds": s?}`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tango.emulation.api_server.failures import Refused, bad_request

KINDS = ("429", "500", "latency", "drop", "cut-watches")


@dataclass(slots=True)
class Rule:
    """One fault; `count` falls to 0, -1 goes on for ever."""

    fault: str
    verb: str = ""
    path: str = ""
    count: int = -1
    probability: float = 1.0
    seconds: float = 0.0


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._random = random.Random(0)

    def replace(self, rules: Any) -> None:
        """Take new rules. Raises: Refused 400 for a rule that is none."""
        try:
            found = [Rule(**rule) for rule in rules]
        except TypeError as error:
            raise bad_request(f"a fault rule is wrong: {error}") from error
        unknown = [rule.fault for rule in found if rule.fault not in KINDS]
        if unknown:
            raise bad_request(f"unknown faults {unknown}; known: {', '.join(KINDS)}")
        self.rules = found

    def struck(self, verb: str, path: str) -> Rule | None:
        """The fault that this call meets, counted down; None for most."""
        for rule in self.rules:
            if rule.count == 0 or rule.fault == "cut-watches" or (rule.verb and rule.verb != verb) or rule.path not in path:
                continue
            if rule.probability < 1.0 and self._random.random() >= rule.probability:
                continue
            rule.count -= rule.count > 0
            return rule
        return None


def refusal(rule: Rule) -> Refused:
    """The answer of a 429 or 500 rule."""
    if rule.fault == "429":
        return Refused(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
            details={"retryAfterSeconds": 1},
            headers={"Retry-After": "1"},
        )
    return Refused(500, "InternalError", "Internal error occurred: injected fault")
