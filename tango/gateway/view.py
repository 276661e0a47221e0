"""What a gateway knows of its cluster: services, instances and tokens, read from the journal a few times a second."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from tango.domain.near_names import near_name
from tango.domain.services import Service, ServiceClass, not_admitted
from tango.domain.tokens import KnownToken
from tango.gateway.problems import Problem, Trouble
from tango.ports.callers import CallerRequests
from tango.ports.journal import JournalFleet
from tango.ports.tokens import KnownTokens


class GatewayJournal(CallerRequests, JournalFleet, KnownTokens, Protocol):
    """What a gateway needs of its cluster's journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """The cluster at one instant."""

    services: dict[str, Service] = field(default_factory=dict)
    ready: Counter[str] = field(default_factory=Counter)
    """Instances that are ready, by service, in all clusters."""
    cores: dict[str, float] = field(default_factory=dict)
    """CPU that they may use together, in cores, by service."""
    tokens: tuple[KnownToken, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the centre has published the services to the journal."""
        return bool(self.services)

    def lc_service(self, name: str, tenant: str) -> Service:
        """The LC service of this name, to which this tenant may send. Raises: Problem for any other."""
        if not self.is_known:
            raise Problem(
                Trouble.JOURNAL_AWAY, "the cluster's agent has not brought the services from the centre yet", retry_after_s=2.0
            )
        service = self.services.get(name)
        if service is None or service.service_class is not ServiceClass.LC:
            lc = [s.name for s in self.services.values() if s.service_class is ServiceClass.LC]
            found = (
                "a best-effort service: send it a job"
                if service
                else f"no service{near_name(name, lc)}; `tango service list` and GET /services list them"
            )
            raise Problem(Trouble.UNKNOWN_SERVICE, f"{name[:80]!r} is {found}", service=name[:80])
        if not service.admits(tenant):
            raise Problem(Trouble.NOT_YOUR_SERVICE, not_admitted(service, tenant), service=service.name)
        return service


def view_of(journal: GatewayJournal) -> ClusterView:
    """The cluster as the journal has it now. Blocking. Raises: StoreUnavailable."""
    ready: Counter[str] = Counter()
    cores: dict[str, float] = defaultdict(float)
    for _, instance in journal.instances():
        if instance.ready:
            ready[instance.service] += 1
            cores[instance.service] += instance.cpu_limit_millicores / 1e3
    services = {service.name: service for service in journal.services()}
    return ClusterView(services=services, ready=ready, cores=dict(cores), tokens=journal.admitted())
