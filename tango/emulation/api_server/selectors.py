"""Label and field selectors, in the query syntax (`a=b,c in (d,e)`) and as `LabelSelector` objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tango.emulation.api_server.failures import bad_request
from tango.emulation.api_server.resources import Resource

Json = dict[str, Any]
Match = Callable[[Json], bool]

_SET = re.compile(r"\s*(!?)\s*([A-Za-z0-9_./-]+)\s*(?:\s(in|notin)\s*\(([^)]*)\)|(==|=|!=)\s*([A-Za-z0-9_.-]*))?\s*")


def matcher(resource: Resource, labels: str, fields: str) -> Match | None:
    """A predicate for objects by a label and a field selector, both in query syntax; None if everything matches.

    Raises: Refused 400 for a malformed selector, or a field that cannot be selected by.
    """
    tests = _label_tests(labels) + _field_tests(resource, fields)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda item: all(test(item) for test in tests)


def labels_match(selector: Json | None, labels: Json) -> bool:
    """Whether a `LabelSelector` object (matchLabels, matchExpressions) selects the labels; an empty one selects all, None nothing."""
    if selector is None:
        return False
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for e in selector.get("matchExpressions") or []:
        value, values = labels.get(e["key"]), e.get("values") or []
        held = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[e["operator"]]
        if not held:
            return False
    return True


def _label_tests(text: str) -> list[Match]:
    tests: list[Match] = []
    for part in _split(text):
        found = _SET.fullmatch(part)
        if not found:
            raise bad_request(f"unable to parse requirement: {part!r}")
        absent, key, set_operator, values, operator, value = found.groups()
        if set_operator:
            among = {v.strip() for v in values.split(",")}
            tests.append(_among(key, among, set_operator == "in"))
        elif operator:
            tests.append(_among(key, {value}, operator != "!="))
        elif absent:
            tests.append(lambda item, key=key: key not in _labels(item))  # type: ignore[misc]
        else:
            tests.append(lambda item, key=key: key in _labels(item))  # type: ignore[misc]
    return tests


def _among(key: str, values: set[str], wanted: bool) -> Match:
    return lambda item: (_labels(item).get(key) in values) is wanted


def _field_tests(resource: Resource, text: str) -> list[Match]:
    known = ("metadata.name", "metadata.namespace", *resource.fields)
    tests: list[Match] = []
    for part in _split(text):
        found = re.fullmatch(r"\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*", part)
        path, operator, value = found.groups() if found else (part, "", "")
        if not operator:
            raise bad_request(f"invalid selector: {part!r}; can't understand {part!r}")
        if path not in known:
            raise bad_request(
                f'Unable to find "{resource.api_version}, Resource={resource.name}" that match label selector "", field selector '
                f'"{text}": field label not supported: {path}'
            )
        tests.append(_field_test(tuple(path.split(".")), value, operator != "!="))
    return tests


def _field_test(path: tuple[str, ...], wanted: str, equal: bool) -> Match:
    def test(item: Json) -> bool:
        value: Any = item
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        # Fields of type bool that are left out of an object are false, and are selected as such.
        if value is None and path[-1] in ("unschedulable", "hostNetwork"):
            text = "false"
        return (text == wanted) is equal

    return test


def _labels(item: Json) -> Json:
    return item["metadata"].get("labels") or {}


def _split(text: str) -> list[str]:
    """The requirements of a selector, split at commas outside parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]
