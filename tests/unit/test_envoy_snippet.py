"""The snippet for Envoy in docs/gateway.md: YAML with fields that Envoy has. Nobody has run it before a gateway: Envoy is not here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
# envoy.config.cluster.v3.Cluster, endpoint.v3.ClusterLoadAssignment and route.v3.Route, as far as the snippet uses them.
FIELDS = {
    "clusters[]": {"name", "type", "load_assignment"},
    "clusters[].load_assignment": {"cluster_name", "endpoints"},
    "clusters[].load_assignment.endpoints[]": {"lb_endpoints"},
    "clusters[].load_assignment.endpoints[].lb_endpoints[]": {"endpoint"},
    "clusters[].load_assignment.endpoints[].lb_endpoints[].endpoint": {"address"},
    "clusters[].load_assignment.endpoints[].lb_endpoints[].endpoint.address": {"socket_address"},
    "clusters[].load_assignment.endpoints[].lb_endpoints[].endpoint.address.socket_address": {"address", "port_value"},
    "routes[]": {"match", "route"},
    "routes[].match": {"prefix"},
    "routes[].route": {"cluster", "timeout", "retry_policy"},
    "routes[].route.retry_policy": {"num_retries"},
}


def messages(value: Any, place: str = "") -> Iterator[tuple[str, set[str]]]:
    """(place, fields) of each mapping in a document."""
    if isinstance(value, dict):
        if place:
            yield place, set(value)
        for key, of in value.items():
            yield from messages(of, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for of in value:
            yield from messages(of, f"{place}[]")


def test_it_has_no_field_that_envoy_does_not_have() -> None:
    """What a proxy must not do is said: no time-out of its own (0 s: none), and no retry."""
    (block,) = (text for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "load_assignment" in text)
    document = yaml.safe_load(block)

    assert dict(messages(document)) == FIELDS
    (route,) = document["routes"]
    assert route["route"] == {"cluster": document["clusters"][0]["name"], "timeout": "0s", "retry_policy": {"num_retries": 0}}
