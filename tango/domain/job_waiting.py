"""What a job waits for, as far as its own row and the refusals tell: what lists, gateways and those who wait for it are told."""

from __future__ import annotations

from tango.domain.explanation import Known, RequestStanding
from tango.domain.jobs import Job
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.domain.why import explain

_BEFORE_IT_RUNS = (RequestState.RELEASED, RequestState.PENDING, RequestState.PLACED)


def waiting_words(job: Job) -> str:
    """What it waits for, before it runs; empty from then on. Whoever gathers the fleet knows more: the nodes, and who is ahead."""
    if job.state not in _BEFORE_IT_RUNS:
        return ""
    standing = RequestStanding(
        key=job.key,
        service_class=ServiceClass.BE,
        service=job.service,
        state=job.state,
        entry_cluster=job.entry_cluster,
        due_s=0.0,
        cluster=job.cluster,
        node=job.node,
        pod=job.pod,
    )
    return explain(Known(standing=standing, refusals=job.refusals, pod_waits=job.pod_waits)).words
