"""Reading what services of a fleet do to their neighbours (`spec.interference`), and writing it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tango.domain.interference import MOST_PRESSURE, MOST_SENSITIVITY, PRESSURES, ServiceInterference
from tango.domain.near_names import near_name
from tango.fleets.yaml_document import YamlValue


def interference_of(value: YamlValue, services: Sequence[str]) -> tuple[ServiceInterference, ...]:
    """One for each key, a service's name, in order of the names. Raises: FileRefused with the line of the mistake."""
    found = []
    for name, item in value.mapping().values.items():
        if name not in services:
            item.refuse(
                f"a key that is one of: {', '.join(services)}",
                found=f"of {name!r}, no service of this fleet{near_name(name, services)}",
            )
        keys = item.mapping()
        fields: dict[str, Any] = keys.fields(
            {"pressure": lambda v: _kinds(v, MOST_PRESSURE), "sensitivity": lambda v: _kinds(v, MOST_SENSITIVITY)}
        )
        found.append(ServiceInterference(service=name, **fields))
    return tuple(sorted(found, key=lambda one: one.service))


def declared_interference(found: Sequence[ServiceInterference]) -> dict[str, object]:
    """The mapping that `interference_of` reads the same from."""
    return {
        one.service: {
            "pressure": dict(zip(PRESSURES, one.pressure, strict=True)),
            **({} if one.sensitivity is None else {"sensitivity": dict(zip(PRESSURES, one.sensitivity, strict=True))}),
        }
        for one in found
    }


def _kinds(value: YamlValue, most: float) -> tuple[float, ...]:
    """A figure for each kind, 0 for those that are not named."""
    given = value.mapping().fields({kind: lambda v: v.number(0.0, most) for kind in PRESSURES})
    return tuple(float(str(given.get(kind, 0.0))) for kind in PRESSURES)
