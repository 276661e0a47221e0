"""Bodies and parameters that no client of Kubernetes sends: each is refused with its place, and breaks nothing inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tango.emulation.api_server.bodies import change_of, delete_options, object_of
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.faults import Faults
from tango.emulation.api_server.forms import whole_number

POD: dict[str, Any] = {"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"containers": [{"name": "work"}]}, "status": {}}
JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (5, "the body is an integer, expected an object"),
        ({"metadata": []}, "metadata is a list, expected an object"),
        ({"metadata": {"name": 5}}, "metadata.name is an integer, expected a string"),
        ({"metadata": {"labels": {"x": 5}}}, "metadata.labels.x is an integer, expected a string"),
        ({"metadata": {"deletionGracePeriodSeconds": True}}, "deletionGracePeriodSeconds is true or false, expected an integer"),
        ({"spec": 5}, "spec is an integer, expected an object"),
        ({"spec": {"containers": 5}}, "spec.containers is an integer, expected a list"),
        ({"spec": {"containers": [{"name": "a"}, 5]}}, r"spec.containers\[1\] is an integer, expected an object"),
        ({"spec": {"containers": [{"resources": {"requests": {"cpu": []}}}]}}, "requests.cpu is a list, expected a string or an"),
        ({"status": {"capacity": "x"}}, "status.capacity is a string, expected an object"),
        ({"target": 5}, "target is an integer, expected an object"),
    ],
)
def test_a_part_of_the_wrong_form_is_refused_however_it_comes(body: Any, words: str) -> None:
    """As an object, and as what a merge patch would make of one."""
    with pytest.raises(Refused, match=words) as posted:
        object_of(json.dumps(body).encode(), JSON, None)
    with pytest.raises(Refused) as patched:
        change_of(json.dumps(body).encode(), "application/merge-patch+json")(POD)

    assert (posted.value.code, patched.value.code) == (400, 400)


def test_a_json_patch_cannot_make_an_object_of_the_wrong_form() -> None:
    """It is well-formed by itself; what counts is what it leaves."""
    patch = change_of(b'[{"op": "replace", "path": "/metadata", "value": 5}]', "application/json-patch+json")

    with pytest.raises(Refused, match="metadata is an integer"):
        patch(POD)


def test_null_is_as_good_as_left_away_and_a_sound_object_stays_as_it_is() -> None:
    """Clients write null for what they leave empty."""
    body = {**POD, "spec": {"containers": None, "nodeName": None}, "other": [1, {"x": 2}]}

    assert object_of(json.dumps(body).encode(), JSON, None) == body


@pytest.mark.parametrize("raw", [b"[]", b"5", b'{"gracePeriodSeconds": "x"}', b'{"preconditions": 5}', b"{"])
def test_delete_options_of_the_wrong_form_are_refused(raw: bytes) -> None:
    """Nothing is deleted by them."""
    with pytest.raises(Refused) as refused:
        delete_options(raw, {})

    assert refused.value.code == 400


def test_digits_of_other_scripts_are_no_numbers() -> None:
    """Python calls `²` a digit and cannot read it."""
    assert whole_number({"limit": "²"}, "limit", 7) == 7
    assert whole_number({"limit": "12"}, "limit", 7) == 12
    assert delete_options(b'{"gracePeriodSeconds": 3}', {"gracePeriodSeconds": "²"}) == {"gracePeriodSeconds": 3}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "no JSON.*expected a list of rules such as"),
        (b'{"fault": "500"}', "no list, expected a list of rules such as"),
        (b'["500"]', "rule 0 is a string, expected an object"),
        (b"[null]", "rule 0 is null, expected a list of rules"),
        (
            b'[{"fault": "501"}]',
            "rule 0: fault is '501', expected one of: 401, 429, 500, 503, rbac, service-account, webhook, webhook-away, policy, ",
        ),
        (b'[{"verb": "get"}]', "rule 0: fault is None, expected one of"),
        (b'[{"fault": "500", "times": 1}]', '"times":1.*expected a list of rules such as'),
        (b'[{"fault": "500"}, {"fault": "500", "count": "x"}]', "rule 1.count is a string, expected an integer"),
        (b'[{"fault": "500", "path": 5}]', "rule 0.path is an integer, expected a string"),
        (b'[{"fault": "500", "probability": 2}]', "rule 0: expected a probability from 0 to 1"),
        (b'[{"fault": "latency", "seconds": -1}]', "rule 0: expected a probability from 0 to 1, and seconds of at least 0"),
    ],
)
def test_fault_rules_of_the_wrong_form_are_refused_and_the_old_ones_stay(raw: bytes, words: str) -> None:
    """A rule that broke at the next call would break every call."""
    faults = Faults()
    faults.replace(b'[{"fault": "429", "verb": "create", "count": null}]')

    with pytest.raises(Refused, match=words) as refused:
        faults.replace(raw)

    assert refused.value.code == 400
    assert [(rule.fault, rule.verb, rule.count) for rule in faults.rules] == [("429", "create", -1)]


def test_roles_that_are_not_loaded_are_loaded_after_the_seconds_that_a_rule_gives() -> None:
    """Administrators never notice, and other rules have no end by themselves."""
    now_s = [0.0]
    faults = Faults(lambda: now_s[0])
    faults.replace(b'[{"fault": "rbac", "seconds": 20}, {"fault": "401", "user": "old"}]')

    def struck(user: str, *, is_master: bool = False) -> str:
        rule = faults.struck("list", "/api/v1/pods", user, early=True, is_master=is_master)
        return rule.fault if rule is not None else ""

    assert [struck("tango"), struck("root", is_master=True)] == ["rbac", ""]
    now_s[0] = 20.0
    assert [struck("tango"), struck("old")] == ["", "401"]
