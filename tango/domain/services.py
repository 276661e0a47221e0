"""Services: the workload types whose requests Tango serves.

A latency-critical (LC) service runs as long-lived instances (pods) that answer requests over HTTP within a target.
A best-effort (BE) service has no standing instance: each of its requests runs as a pod of its own.

What its pods are made of is the service's template, or, where it has none, Tango's synthetic workload.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tango.domain.pod_templates import PodTemplate, template_of
from tango.domain.quantities import Amounts
from tango.domain.template_rules import problem_of
from tango.domain.tenants import DEFAULT_TENANT, TENANT_NAME_RULE, is_tenant_name
from tango.errors import ConfigError


class ServiceClass(IntEnum):
    """Latency-critical or best-effort; columns hold the integer, tables and files the label."""

    LC = 0
    BE = 1

    @property
    def label(self) -> str:
        """`lc` or `be`, as written in queues, labels and files."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Pods that somebody else makes, changes and ends, such as those of a Deployment: Tango uses them and, if it may, resizes them."""

    namespace: str
    selector: str
    """Label selector, as the API takes it."""
    container: str = ""
    """The container that answers and is resized; empty: the pod's default one."""
    resize: bool = False
    """Whether Tango may move their CPU in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One workload type.

    Raises: ConfigError if a value is missing, not above 0, or would make its pod's QoS class other than Burstable, which in-place resizes
    rely on.
    """

    name: str
    service_class: ServiceClass
    image: str = ""
    """Image of the synthetic workload; empty: the one that the cluster's settings name (`KubeSettings.workload_image`)."""
    port: int = 8080
    cpu_work_s: float
    """Mean CPU work of one request, in CPU-seconds."""
    cpu_work_cv: float = 0.5
    """Coefficient of variation of the work (lognormal), where a trace does not give the work itself."""
    memory_mib: int
    """Memory that one request holds from start to end; BE: all of its pod."""
    target_ms: float | None = None
    """LC only: latency within which a request must be answered, counted from its due time."""
    shed_after_targets: float = 0.0
    """LC only: a request that cannot be answered within so many targets of its due time is given up before it is dispatched;
    0: never, it is served late."""
    instances_per_node: int = 1
    """LC only: standing pods of this service on every node."""
    cpu_request_millicores: int = 100
    """LC: request of an instance. BE: request of a pod (what the scheduler counts and the weight it shares by)."""
    cpu_limit_millicores: int = 1000
    """Limit of the pod; for LC the starting point of elastic scaling, for BE its cap."""
    instance_memory_mib: int = 0
    """LC only: memory limit of an instance; it serves `instance_memory_mib // memory_mib` requests at a time."""
    payload_kib: float = 4.0
    """Request plus answer on the wire, in KiB."""
    extended: Amounts = ()
    """What a pod asks for beside CPU and memory, such as (("nvidia.com/gpu", 1000),) for one GPU; request and limit are equal."""
    template: str = ""
    """What its pods are made of: the canonical text of a PodTemplateSpec (`tango.domain.pod_templates`); empty: Tango's own workload."""
    container: str = ""
    """With a template: the container that is resized, that answers, and whose exit code counts."""
    allow_literal: tuple[str, ...] = ()
    """Environment variables that may have literal values although they look like secrets."""
    namespace: str = ""
    """Where its pods are made, once the owner of that namespace has allowed it; empty: in Tango's own."""
    adopt: Adoption | None = None
    """LC only: its instances are pods of somebody else; Tango never makes, deletes or evicts them."""
    tls: bool = False
    """LC only, not the synthetic workload: its instances speak TLS, with a certificate of the service's name."""
    preserve_host: bool = False
    """LC only, not the synthetic workload: its instances get the `Host` that callers sent, and not their own address."""
    never_evict: bool = False
    """BE only: its pods never make way for LC."""
    never_resize: bool = False
    """LC only: the CPU of its instances stays as declared."""
    startup_cpu_limit_millicores: int = 0
    """LC only: CPU limit of an instance from its making until it is ready for the first time, when it gets the declared one; 0: declared
    from the beginning. The request is the declared one all the time, so that no room is asked for that is needed for seconds."""
    tenant: str = DEFAULT_TENANT
    """Whose it is."""
    shared: bool = True
    """Whether every tenant may send requests and jobs to it; else its own alone, and those of `allowed_tenants`. A declaration that names a
    tenant and does not say is of that tenant alone."""
    allowed_tenants: tuple[str, ...] = ()
    """Other tenants that may send to a service that is not shared."""
    assumed: tuple[str, ...] = ()
    """Fields whose values nobody declared: they are guesses until they are measured."""

    def __post_init__(self) -> None:
        def refuse(field: str, found: object, expected: str) -> None:
            raise ConfigError(f"service {self.name!r}: {field} is {found!r}, expected {expected}")

        for field in ("cpu_work_s", "memory_mib", "cpu_request_millicores", "cpu_limit_millicores", "port", "instances_per_node"):
            if not getattr(self, field) > 0:
                refuse(field, getattr(self, field), "a number above 0")
        if self.cpu_work_cv < 0 or self.payload_kib < 0:
            refuse("cpu_work_cv or payload_kib", (self.cpu_work_cv, self.payload_kib), "0 or more")
        if list(self.extended) != sorted(dict(self.extended).items()) or any(amount <= 0 for _, amount in self.extended):
            refuse("extended", self.extended, "amounts above 0 in order of their names, each name once")
        if self.cpu_request_millicores >= self.cpu_limit_millicores:
            refuse(
                "cpu_request_millicores",
                self.cpu_request_millicores,
                "less than cpu_limit_millicores, so that the pod is Burstable",
            )
        self._check_class(refuse)
        for field, why in (("tls", "can speak TLS"), ("preserve_host", "look at Host")):
            if getattr(self, field) and (self.is_synthetic or self.service_class is ServiceClass.BE):
                refuse(field, True, f"false: only instances of a template or adopted ones {why}")
        if self.template:
            refuse_template(self)
        if self.adopt is not None and (self.template or self.service_class is not ServiceClass.LC):
            refuse("adopt", self.adopt.selector, "an LC service without a template")
        if self.adopt is not None and self.namespace:
            refuse("namespace", self.namespace, "nothing beside adopt, which names that of its pods")
        self._check_tenants(refuse)

    def _check_tenants(self, refuse: Callable[[str, object, str], None]) -> None:
        """Names of tenants, and who may send."""
        for name in (self.tenant, *self.allowed_tenants):
            if not is_tenant_name(name):
                refuse("tenant or allowed_tenants", name, TENANT_NAME_RULE)
        if self.shared and self.allowed_tenants:
            refuse(
                "allowed_tenants", self.allowed_tenants, "nothing: every tenant may send to a shared service; declare shared: false"
            )

    def _check_class(self, refuse: Callable[[str, object, str], None]) -> None:
        """What LC services must have, and BE services cannot."""
        if self.service_class is ServiceClass.LC:
            if self.target_ms is None or not self.target_ms > 0:
                refuse("target_ms", self.target_ms, "milliseconds above 0 for an LC service")
            if self.instance_memory_mib < self.memory_mib:
                refuse("instance_memory_mib", self.instance_memory_mib, f"at least memory_mib ({self.memory_mib})")
            if self.never_evict:
                refuse("never_evict", self.never_evict, "nothing: LC instances are never evicted")
            if not self.shed_after_targets >= 0:
                refuse("shed_after_targets", self.shed_after_targets, "0 or more targets")
            self._check_boost(refuse)
        elif self.startup_cpu_limit_millicores:
            refuse(
                "startup_cpu_limit_millicores", self.startup_cpu_limit_millicores, "nothing: BE pods do their work from the start"
            )
        elif self.target_ms is not None or self.shed_after_targets:
            told = ("target_ms", self.target_ms) if self.target_ms is not None else ("shed_after_targets", self.shed_after_targets)
            refuse(*told, "nothing: a BE service has no target")
        elif self.never_resize:
            refuse("never_resize", self.never_resize, "nothing: BE pods are never resized")

    def _check_boost(self, refuse: Callable[[str, object, str], None]) -> None:
        """More CPU for the start makes sense only above the limit, and where Tango makes the pod and may resize it afterwards."""
        boost = self.startup_cpu_limit_millicores
        if not boost:
            return
        if self.adopt is not None:
            refuse("startup_cpu_limit_millicores", boost, "nothing beside adopt: its pods are made by somebody else")
        if self.never_resize:
            refuse("startup_cpu_limit_millicores", boost, "nothing beside never_resize: it is taken back by a resize")
        if boost <= self.cpu_limit_millicores:
            refuse("startup_cpu_limit_millicores", boost, f"more than cpu_limit_millicores ({self.cpu_limit_millicores})")

    def admits(self, tenant: str) -> bool:
        """Whether a tenant may send requests or jobs to it."""
        return self.shared or tenant == self.tenant or tenant in self.allowed_tenants

    @property
    def concurrency(self) -> int:
        """Requests that one LC instance holds in memory at the same time."""
        return max(1, self.instance_memory_mib // self.memory_mib)

    @property
    def is_synthetic(self) -> bool:
        """Whether its pods are Tango's own workload, which does the work that a trace says; all others do what they were made for."""
        return not self.template and self.adopt is None

    @property
    def resizable(self) -> bool:
        """Whether Tango may move the CPU of its instances."""
        return not self.never_resize and (self.adopt is None or self.adopt.resize)

    @property
    def pod_template(self) -> PodTemplate | None:
        """The template, parsed; None for Tango's own workload."""
        return template_of(self.template, self.container) if self.template else None

    @property
    def revision(self) -> str:
        """What tells instances of one declaration of the service's pods from those of another.

        Empty for Tango's own workload in Tango's own namespace.
        """
        if not (self.template or self.namespace):
            return ""
        sizes = (self.port, self.cpu_request_millicores, self.cpu_limit_millicores, self.instance_memory_mib)
        # As it was before there were namespaces, so that instances which stand are not replaced for them.
        values = (self.template, self.container, sizes, *((self.namespace,) if self.namespace else ()))
        return hashlib.sha256(repr(values).encode()).hexdigest()[:12]

    @property
    def pod_requests(self) -> tuple[int, int]:
        """(millicores, MiB) that one of its pods requests: with what sidecars and init containers ask for. BE: its request's memory may
        be another."""
        cpu, memory = self.cpu_request_millicores, self.memory_mib
        if self.service_class is ServiceClass.LC:
            memory = self.instance_memory_mib
        if (template := self.pod_template) is None:
            return cpu, memory
        held = template.asked.memory_request_mib or memory
        beside = template.beside(cpu, held)
        # The figure of a BE service is that of its whole pod, since a request says no more than one.
        return cpu + beside[0], held + beside[1] if self.service_class is ServiceClass.LC else memory


def spec_of(service: Service) -> dict[str, Any]:
    """The whole declaration as JSON has it; `service_of` reads it."""
    return {**dataclasses.asdict(service), "service_class": int(service.service_class), "extended": dict(service.extended)}


def service_of(spec: Mapping[str, Any]) -> Service:
    """A service from its declaration as `spec_of` gives it."""
    extended = tuple(sorted((spec.get("extended") or {}).items()))
    tuples = {name: tuple(spec[name]) for name in ("allow_literal", "allowed_tenants", "assumed") if name in spec}
    adopt = Adoption(**spec["adopt"]) if spec.get("adopt") else None
    return Service(**{**spec, **tuples, "adopt": adopt, "service_class": ServiceClass(spec["service_class"]), "extended": extended})


def not_admitted(service: Service, tenant: str) -> str:
    """What a tenant is told that may not send to a service."""
    return (
        f"service {service.name} is of tenant {service.tenant} and not open to tenant {tenant}: its declaration has to name {tenant} in "
        "allowed_tenants, or say shared: true (`tango service apply`)"
    )


@functools.lru_cache(maxsize=1024)
def _checked(template: str, container: str, lc: bool, allow_literal: tuple[str, ...]) -> str:
    """The problem of a template in words, empty for none: looked for once, since a service is read from the store many times."""
    try:
        problem = problem_of(json.loads(template), lc=lc, container=container, allowed=allow_literal)
    except ValueError as error:
        return f"template is no JSON: {error}"
    return str(problem or "")


def refuse_template(service: Service) -> None:
    """Raises: ConfigError, with the field's path, for a template that Tango cannot run."""
    is_lc = service.service_class is ServiceClass.LC
    if problem := _checked(service.template, service.container, is_lc, service.allow_literal):
        raise ConfigError(f"service {service.name!r}: {problem}")
