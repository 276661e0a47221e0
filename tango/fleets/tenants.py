"""Conversion of `kind: Tenant` documents to domain values."""

from __future__ import annotations

from tango.domain.quantities import Amounts, Quantity, cpu_millicores, extended_amounts, is_extended, memory_mib, parse_quantity
from tango.domain.tenants import LEAST_WEIGHT, MOST_WEIGHT, Guarantee, Tenant
from tango.errors import ConfigError, FileRefused
from tango.fleets.declarations import head_of
from tango.fleets.yaml_document import YamlValue

MOST_JOBS = 10_000_000
"""Largest limit of jobs that may be declared: more than any queue here is made for."""


def tenant_of(document: YamlValue) -> Tenant:
    """The tenant that a document declares. Raises: FileRefused with file, line, key, what was found and what was expected."""
    name, spec = head_of(document, "Tenant")
    nothing: Amounts = ()
    weight = spec.optional("weight", lambda v: v.number(LEAST_WEIGHT, MOST_WEIGHT), 1.0)
    quota = spec.optional("quota", _quota_of, nothing)
    most_jobs = spec.optional("jobs", lambda v: v.integer(0, MOST_JOBS), None)
    guarantee = spec.optional("guarantee", _guarantee_of, None)
    spec.close()
    try:
        return Tenant(name=name, weight=weight, quota=quota, most_jobs=most_jobs, guarantee=guarantee)
    except ConfigError as error:
        raise FileRefused(f"{document.where}: {error}") from error


def _quota_of(value: YamlValue) -> Amounts:
    found = dict[str, int]()
    for name, item in value.mapping().values.items():
        if name not in ("cpu", "memory") and not is_extended(name):
            item.refuse("cpu, memory, or an extended resource such as nvidia.com/gpu", found=f"of {name!r}")
        found[name] = _amount(name, item)
    return tuple(sorted(found.items()))


def _guarantee_of(value: YamlValue) -> Guarantee:
    keys = value.mapping()
    none: tuple[str, ...] = ()
    found = Guarantee(cpu_millicores=keys.required("cpu", _cpu_guaranteed), clusters=keys.optional("clusters", _clusters_of, none))
    keys.close()
    return found


def _cpu_guaranteed(value: YamlValue) -> int:
    amount = _amount("cpu", value)
    if amount <= 0:
        value.refuse("a quantity above 0")
    return amount


def _clusters_of(value: YamlValue) -> tuple[str, ...]:
    found = list[str]()
    for item in value.items():
        if (name := item.label()) in found:
            item.refuse("each cluster once")
        found.append(name)
    return tuple(sorted(found))


def _amount(name: str, item: YamlValue) -> int:
    said = item.scalar()
    if isinstance(said, bool) or not isinstance(said, Quantity):
        item.refuse("a quantity such as 8, 500m or 16Gi")
    try:
        amount = parse_quantity(said)
    except ValueError:
        item.refuse("a quantity such as 8, 500m or 16Gi")
    if amount < 0:
        item.refuse("a quantity of 0 or more")
    if name == "cpu":
        return cpu_millicores(said)
    return memory_mib(said) if name == "memory" else dict(extended_amounts({name: said})).get(name, 0)
