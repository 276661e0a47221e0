"""What a declaration of services would change, in words, for `--dry-run`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from tango.domain.services import Service

LONGEST_VALUE = 60
"""Characters of a value that are shown: a pod template is a page."""


def service_changes(declared: Sequence[Service], known: Iterable[Service]) -> list[str]:
    """For each declared service one line: whether it is new, stays as it is, or which of its fields get which values."""
    before = {service.name: service for service in known}
    return [f"{service.name}: {_change(service, before.get(service.name))}" for service in declared]


def _change(service: Service, before: Service | None) -> str:
    if before is None:
        return f"new, {service.service_class.label}"
    fields = [field.name for field in dataclasses.fields(Service)]
    changed = [name for name in fields if getattr(service, name) != getattr(before, name)]
    if not changed:
        return "stays as it is"
    return "; ".join(f"{name} {_shown(getattr(before, name))} -> {_shown(getattr(service, name))}" for name in changed)


def _shown(value: object) -> str:
    text = str(value) if value not in (None, "", ()) else "-"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
