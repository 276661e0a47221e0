"""Tenants: who owns requests, jobs and services, and what share of the fleet each may have when not all can have what they want.

A tenant that nobody declared has the weight 1 and no quota. Requests of nobody in particular, such as those of a trace that names no
tenant, are those of the tenant `default`. How shares are decided is `tango.scheduling.fair_shares`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tango.domain.quantities import Amounts, format_mib, format_millicores, is_extended
from tango.errors import ConfigError

DEFAULT_TENANT = "default"
MOST_WEIGHT = 1e6
LEAST_WEIGHT = 1e-6
"""Between them shares that are divided by weights stay far from where floats round them away."""
TENANT_NAME_RULE = "at most 63 of a-z, 0-9 and `-`, with a letter or digit first and last"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


def is_tenant_name(name: str) -> bool:
    """Whether a tenant may have this name: `TENANT_NAME_RULE`."""
    return bool(_NAME.fullmatch(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """CPU that the LC instances of a tenant may have whenever they are asked, whatever others want."""

    cpu_millicores: int
    clusters: tuple[str, ...] = ()
    """Where, together; empty: of all clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One tenant as declared. Raises: ConfigError, which names the member, for what cannot be."""

    name: str
    weight: float = 1.0
    """Of tenants that all want more than there is, one of weight 2 gets twice what one of weight 1 gets, by dominant resource."""
    quota: Amounts = ()
    """(resource, amount) in order of the names: the most that its BE pods may request together, in millicores of `cpu`, MiB of `memory`,
    thousandths of extended resources. What is not named is not limited."""
    most_jobs: int | None = None
    """Jobs of its own that may be live at a time; a further one is refused when it is submitted. None: any number."""
    guarantee: Guarantee | None = None
    """For its LC services (`tango.scheduling.guarantees`); None: no more than others leave."""

    def __post_init__(self) -> None:
        def refuse(field: str, found: object, expected: str) -> None:
            raise ConfigError(f"tenant {self.name!r}: {field} is {found!r}, expected {expected}")

        if not is_tenant_name(self.name):
            refuse("name", self.name, TENANT_NAME_RULE)
        if not LEAST_WEIGHT <= self.weight <= MOST_WEIGHT:
            refuse("weight", self.weight, f"a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
        if list(self.quota) != sorted(dict(self.quota).items()):
            refuse("quota", self.quota, "each resource once, in order of the names")
        for name, amount in self.quota:
            if name not in ("cpu", "memory") and not is_extended(name):
                refuse("quota", name, "cpu, memory, or an extended resource such as nvidia.com/gpu")
            if amount < 0:
                refuse(f"quota of {name}", amount, "0 or more")
        if self.most_jobs is not None and self.most_jobs < 0:
            refuse("jobs", self.most_jobs, "0 or more")
        if self.guarantee is not None and self.guarantee.cpu_millicores <= 0:
            refuse("guarantee of cpu", self.guarantee.cpu_millicores, "above 0")
        if self.guarantee is not None and list(self.guarantee.clusters) != sorted(set(self.guarantee.clusters)):
            refuse("clusters of the guarantee", self.guarantee.clusters, "each cluster once, in order of the names")

    def shown_quota(self) -> dict[str, str]:
        """The quota as Kubernetes writes quantities, by resource."""
        return {name: format_mib(amount) if name == "memory" else format_millicores(amount) for name, amount in self.quota}

    def shown_guarantee(self) -> str:
        """The guarantee in words; empty: none."""
        if self.guarantee is None:
            return ""
        where = f" in {', '.join(self.guarantee.clusters)}" if self.guarantee.clusters else ""
        return f"{format_millicores(self.guarantee.cpu_millicores)} cpu{where}"


def tenant_as_dict(tenant: Tenant) -> dict[str, Any]:
    """The declaration as JSON has it; `tenant_from` reads it."""
    return {**dataclasses.asdict(tenant), "quota": dict(tenant.quota)}


def tenant_from(values: Mapping[str, Any]) -> Tenant:
    """A tenant from its declaration as `tenant_as_dict` gives it."""
    said = values.get("guarantee")
    guarantee = None if said is None else Guarantee(cpu_millicores=said["cpu_millicores"], clusters=tuple(said["clusters"]))
    return Tenant(**{**values, "quota": tuple(sorted(values["quota"].items())), "guarantee": guarantee})


class TenantUse(NamedTuple):
    """What a tenant has of one BE service under way."""

    tenant: str
    service: str
    waiting: int
    """Requests that wait for a node."""
    pods: int
    """Requests in flight: each has a pod, or is about to."""
    memory_mib: float
    """What those pods request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantShare:
    """What the last placement of BE saw of a tenant."""

    tenant: str
    share: float
    """Its dominant share, of what LC leaves."""
    weighted_share: float
    held: Mapping[str, float]
    """What its BE pods request, by resource, in the units of the resource axis."""
    below_s: float | None
    """For how many seconds it has waited below its share; None: it does not."""
    withheld: bool
    """Whether it gets nothing more until another that waits below its share has its next request."""


def tenant_changes(tenants: Iterable[Tenant], known: Mapping[str, Tenant]) -> list[str]:
    """What their declaration would change, in words, one for each that differs from what is known."""
    found = []
    for tenant in tenants:
        before = known.get(tenant.name)
        if before is None:
            found.append(f"{tenant.name}: new, {_words(tenant)}")
        elif before != tenant:
            found.append(f"{tenant.name}: {_words(before)} becomes {_words(tenant)}")
    return found


def _words(tenant: Tenant) -> str:
    quota = ", ".join(f"{amount} of {name}" for name, amount in tenant.shown_quota().items()) or "none"
    guarantee = f", guarantee {tenant.shown_guarantee()}" if tenant.guarantee else ""
    return f"weight {tenant.weight:g}, quota {quota}, jobs {'any' if tenant.most_jobs is None else tenant.most_jobs}{guarantee}"
