"""Reading extended resources of nodes and services, such as `extended: {nvidia.com/gpu: 2}`, and writing them back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tango.domain.quantities import Amounts, extended_amounts, format_extended, parse_quantity
from tango.domain.services import Service
from tango.errors import FileRefused
from tango.fleets.yaml_document import YamlValue

MOST_DEVICES = 10_000
"""Devices of one kind on a node: more than any machine has, so that a greater figure is a slip of a unit."""

# k8s.io/kubernetes pkg/apis/core/validation, ValidateResourceName: a DNS subdomain, a slash, a name of at most 63 characters.
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"(?=[^/]{{1,253}}/){_LABEL}(\.{_LABEL})*/[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


def extended_of(value: YamlValue) -> Amounts:
    """The amounts of a mapping from names to quantities, whole (`2`) or in thousandths (`500m`).

    Raises: FileRefused for a name that is no extended resource's, or an amount that is none.
    """
    found: dict[str, Any] = {}
    for name, item in value.mapping().values.items():
        if not _NAME.fullmatch(name) or name.split("/")[0].endswith("kubernetes.io"):
            item.refuse("a name such as nvidia.com/gpu, with a domain that is not Kubernetes' own", found=f"of {name!r}")
        quantity = item.scalar()
        try:
            amount = parse_quantity(quantity)  # type: ignore[arg-type]
        except ValueError:
            item.refuse("a quantity such as 2 or 500m")
        if not 0 < amount <= MOST_DEVICES or amount * 1000 % 1:
            item.refuse(f"more than 0 and at most {MOST_DEVICES}, in whole thousandths (0.5 or 500m is half of one)")
        found[name] = quantity
    return extended_amounts(found)


def declared_extended(amounts: Amounts) -> dict[str, int | str]:
    """The mapping that `extended_of` reads the same amounts from."""
    return {name: int(text) if text.isdecimal() else text for name, text in format_extended(amounts).items()}


def refuse_fractions(services: Sequence[Service]) -> None:
    """Raises: FileRefused for a service whose pods no Kubernetes cluster accepts: it counts extended resources in whole ones.

    A fleet that shares devices by thousandths can be simulated; on a cluster a device plugin has to offer the shares under a name of
    their own.
    """
    for service in services:
        for name, amount in service.extended:
            if amount % 1000:
                raise FileRefused(
                    f"service {service.name!r} asks for {amount}m of {name}, expected whole ones: Kubernetes gives out no part of an "
                    "extended resource; simulate this fleet, or ask for a resource that a device plugin offers in shares"
                )
