"""A cluster worker: it dispatches and executes LC requests by the cluster's journal, and keeps that. No network is loaded here.

It opens no connection to the centre: what it needs of it, the cluster's agent keeps in the journal.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any

from tango.bootstrap.clock import SystemClock
from tango.control.answer_margin import AnswerMargin
from tango.control.candidates import WeighingRate
from tango.control.dispatch_lc import LcDeciders, LcDispatch, LocalStart
from tango.control.execute_lc import InstanceDirectory, InstanceReach, LcExecutor
from tango.control.fleet_view import FleetView
from tango.control.keep_journal import Keeper
from tango.control.lc_tracing import LcTracing
from tango.control.node_health import NodeHealth
from tango.control.repeating import Repeating
from tango.control.run_facts import RunFacts
from tango.control.run_policies import LcPolicies
from tango.control.seen_answers import SeenAnswers
from tango.control.serve_callers import ServeCallers
from tango.domain.call_json import request_of
from tango.domain.calls import key_taken
from tango.domain.identity import RequestKey
from tango.domain.requests import batches_of
from tango.domain.services import ServiceClass
from tango.errors import BrokerUnavailable
from tango.kube.instance_calls import HttpInstanceCalls
from tango.ports.instances import InstanceCalls, ServiceCalls
from tango.ports.journal import Journal
from tango.ports.messages import Publisher
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import Settings
from tango.systems.batch_step import warm_up_lc


class ClusterWorker:
    """The use cases of one worker for one cluster. Build it after the fork: its executor starts a thread, which a fork would not copy."""

    def __init__(
        self,
        cluster: str,
        journal: Journal,
        publisher: Publisher,
        settings: Settings,
        *,
        calls: Callable[[], InstanceCalls] | None = None,
        service_calls: Callable[[], ServiceCalls] | None = None,
        spans: Spans = NO_SPANS,
    ) -> None:
        """`calls` makes the calls to LC instances, `service_calls` those of callers, on the executor's loop; None: over HTTP, signed.
        `spans`: those of the process."""
        clock = SystemClock()
        # Not by host and process id alone: the process of a container that was restarted has the ids of the one that died, and what
        # that one left would stand by the other's heartbeats.
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        facts = RunFacts(journal, clock)
        tracing = (
            LcTracing(spans, journal, facts.info, cluster=cluster, max_attempts=settings.lease.max_attempts)
            if spans.is_on
            else None
        )
        health, margin, seen = NodeHealth(settings.outlier), AnswerMargin(), SeenAnswers(now_s=clock.now_s)
        view = FleetView(
            lambda: journal.snapshot(at_s=clock.now_s()),
            max_age_s=settings.lc.snapshot_max_age_s,
            masked=health.masked,
            margin=margin,
            seen=seen,
        )
        self._cluster = cluster
        self._journal = journal
        self._publisher = publisher
        self._settings = settings
        self.executor = LcExecutor(
            requests=journal,
            reach=InstanceReach(
                directory=InstanceDirectory(journal),
                calls=calls or functools.partial(HttpInstanceCalls, key=settings.call_key),
                health=health,
                margin=margin,
                seen=seen,
            ),
            publisher=publisher,
            run_zero_s=facts.zero_s,
            callers=ServeCallers(journal, service_calls or functools.partial(_service_calls, settings), settings.call),
            owner=owner,
            settings=settings.lc,
            lease=settings.lease,
            tracing=tracing,
        )
        self.dispatch = LcDispatch(
            deciders=LcDeciders(
                policy_of=LcPolicies(facts, settings).of,
                view=view,
                settings=settings.lc,
                run_now_s=lambda run_id: clock.now_s() - facts.zero_s(run_id),
            ),
            requests=journal,
            publisher=publisher,
            local=LocalStart(starter=self.executor, owner=owner, lease_s=settings.lease.execution_s)
            if settings.lc.start_here
            else None,
            lease_s=settings.lease.dispatch_s,
            tracing=tracing,
            sampling=WeighingRate(settings.explain),
        )
        keeper = Keeper(
            journal=journal,
            publisher=publisher,
            clock=clock,
            owner=owner,
            replay=settings.replay,
            lease=settings.lease,
            tracing=tracing,
        )
        self._keeping = Repeating(f"keeper-{cluster}", keeper.step, longest_pause_s=1.0)

    def take_order(self, order: Mapping[str, Any], *, tenant: str, key: str) -> RequestKey:
        """Accept a request that another application has sent as JSON, and have it dispatched; of several under one key the first.

        Raises: RequestRejected, KeyTaken; NotOpen, StoreUnavailable.
        """
        found = request_of(order, self._journal.services(), tenant=tenant, key=key)
        (accepted,) = self._journal.accept([found])
        self._journal.wait_for_disk()  # all that whoever sent it has is its number
        if accepted.is_taken:
            raise key_taken(found, accepted.key)
        if accepted.is_new:
            row = (*accepted.key, int(ServiceClass.LC), found.service, self._cluster)
            with contextlib.suppress(BrokerUnavailable):  # the keeper publishes it again
                self._publisher.arrivals(batches_of([row]))
        return accepted.key

    def warm_up(self) -> None:
        """Compile the LC policies' code now (numba), so that the first request does not wait for it; then begin to keep the journal."""
        warm_up_lc(self._settings.lc)
        self.begin()

    def begin(self) -> None:
        """Begin to keep the journal."""
        self._keeping.start()

    def close(self) -> None:
        """Release nothing more, settle what has ended, and close the journal."""
        self._keeping.stop(within_s=1.0)
        self.executor.close(timeout_s=3.0)
        self._journal.close()


def _service_calls(settings: Settings) -> ServiceCalls:
    # Ten megabytes that a worker does without while nobody calls.
    from tango.kube.service_calls import HttpServiceCalls

    kept_bytes = settings.call.kept_answer_kib << 10
    return HttpServiceCalls(kept_bytes=kept_bytes, ca_file=settings.call.instance_ca, key=settings.call_key)
