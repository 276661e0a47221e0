"""ConfigMaps and Secrets as the API server takes them."""

from __future__ import annotations

from typing import Any

import pytest

from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.objects import Objects
from tango.emulation.api_server.resources import BY_PLACE
from tango.emulation.api_server.storage import Storage
from tango.emulation.references import references_of

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("resource", "body", "words"),
    [
        ("secrets", {"data": {"k": "no base64"}}, "expected base64"),
        ("secrets", {"data": {"a/b": "YQ=="}}, "a valid config key must consist of"),
        ("configmaps", {"binaryData": {"k": "%"}}, "expected base64"),
        ("configmaps", {"data": {"k": "x" * (2 << 20)}}, "may not be more than"),
    ],
)
def test_values_of_the_wrong_form_are_refused(resource: str, body: Json, words: str) -> None:
    """422, without the value in it."""
    objects = Objects(Storage(ObjectLog(None), history=10))

    with pytest.raises(Refused, match=words) as refused:
        objects.create(objects.storage.of(BY_PLACE["", "v1", resource]), "default", {"metadata": {"name": "m"}, **body}, dry=False)

    assert refused.value.code == 422


def test_what_is_immutable_stays() -> None:
    """Data of an immutable object, and the type of every Secret."""
    objects = Objects(Storage(ObjectLog(None), history=10))
    secrets = objects.storage.of(BY_PLACE["", "v1", "secrets"])
    objects.create(secrets, "default", {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "immutable": True}, dry=False)

    for part, words in (({"data": {"a": "Yw=="}}, "immutable"), ({"type": "other"}, "field is immutable")):
        with pytest.raises(Refused, match=words) as refused:
            objects.update(secrets, ("default", "s"), "", lambda old, part=part: {**old, **part}, False, "s")  # type: ignore[misc]
        assert refused.value.code == 422


def test_all_that_a_pod_refers_to_is_found() -> None:
    """By environment, keys, volumes, projections and image pulls."""
    spec: Json = {
        "initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}],
        "containers": [{"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}, {"name": "Y"}]}],
        "volumes": [
            {"name": "v", "secret": {"secretName": "c"}},
            {"name": "w", "projected": {"sources": [{"configMap": {"name": "d"}}, {"downwardAPI": {}}]}},
            {"name": "x", "emptyDir": {}},
        ],
        "imagePullSecrets": [{"name": "e"}],
    }

    assert references_of(spec) == {("secrets", "a"), ("configmaps", "b"), ("secrets", "c"), ("configmaps", "d"), ("secrets", "e")}
