"""A cluster worker: it dispatches and executes LC requests and admits BE ones. No network is loaded here."""

from __future__ import annotations

from tango.bootstrap.stores import Stores
from tango.control.admission import Admission
from tango.control.dispatch_lc import LcDeciders, LcDispatch, LocalStart
from tango.control.execute_lc import InstanceDirectory, LcExecutor
from tango.control.fleet_view import FleetView
from tango.control.run_policies import LcPolicies
from tango.kube.instance_calls import HttpInstanceCalls
from tango.ports.messages import Publisher
from tango.systems import warm_up_lc


class ClusterWorker:
    """The use cases of one cluster worker. Build it after the fork: its executor starts a thread, which a fork would not copy."""

    def __init__(self, here: Stores, publisher: Publisher) -> None:
        settings = here.settings
        self._settings = settings
        view = FleetView(lambda: here.fleet.snapshot(at_s=here.clock.now_s()), max_age_s=settings.lc.snapshot_max_age_s)
        self.executor = LcExecutor(
            requests=here.requests,
            directory=InstanceDirectory(here.fleet),
            calls=HttpInstanceCalls,
            publisher=publisher,
            run_zero_s=here.run_facts.zero_s,
            settings=settings.lc,
            lease=settings.lease,
        )
        self.dispatch = LcDispatch(
            deciders=LcDeciders(policy_of=LcPolicies(here.run_facts, settings).of, view=view, settings=settings.lc),
            requests=here.requests,
            publisher=publisher,
            local=LocalStart(starter=self.executor, owner=here.owner, lease_s=settings.lease.execution_s)
            if settings.lc.start_here
            else None,
            lease_s=settings.lease.dispatch_s,
        )
        self.admission = Admission(requests=here.requests, fleet=view.current)
        self.owner = here.owner

    def warm_up(self) -> None:
        """Compile the LC policies' code now (numba), so that the first request does not wait for it."""
        warm_up_lc(self._settings.lc)
