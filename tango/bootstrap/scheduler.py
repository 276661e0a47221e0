"""The scheduler: it places BE requests, re-assures LC services and reconciles.

No other process of the live system loads a network or calls all clusters.
"""

from __future__ import annotations

import time

from tango.bootstrap.stores import Stores
from tango.control.cancel_run import CancelSweep
from tango.control.finish_run import finish_run
from tango.control.place_be import BePlacement
from tango.control.reassure import Reassurance, ReassuranceRounds
from tango.control.reconcile import Reconciliation
from tango.control.run_policies import BePolicies
from tango.kube.gateway import KubernetesGateway
from tango.ports.messages import Publisher
from tango.systems import be_policy


class Scheduler:
    """The use cases of the scheduler, each built once. The gateway's event loop starts with its first call."""

    def __init__(self, here: Stores, publisher: Publisher) -> None:
        settings = here.settings
        gateway = gateway_of(here)
        self._policies = policies = BePolicies(here.run_facts, here.checkpoints, settings)
        self.placement = BePlacement(
            owner=here.owner,
            policy_of=policies.of,
            fallback=be_policy(settings.be.fallback_policy, settings),
            requests=here.requests,
            fleet=here.fleet,
            leases=here.leases,
            gateway=gateway,
            clock=here.clock,
            settings=settings.be,
            lease=settings.lease,
            roles=policies.roles,
            checkpoints=here.checkpoints,
        )
        self.reassurance = ReassuranceRounds(
            reassurance=Reassurance(
                fleet=here.fleet, events=here.events, requests=here.requests, gateway=gateway, settings=settings.sharing
            ),
            runs=here.runs,
            leases=here.leases,
            clock=here.clock,
            owner=here.owner,
        )
        self.reconciliation = Reconciliation(
            owner=here.owner,
            runs=here.runs,
            requests=here.requests,
            leases=here.leases,
            publisher=publisher,
            finish_run=lambda run: finish_run(run, runs=here.runs, records=here.records),
            settings=settings.lease,
        )

        self.cancel_sweep = CancelSweep(
            runs=here.runs,
            records=here.records,
            leases=here.leases,
            gateway=lambda: gateway,
            clock=here.clock,
            sleep=time.sleep,
            settings=settings.cancel,
        )

    def warm_up(self) -> None:
        """Load torch and the network now, so that the first tick does not wait for them."""
        self._policies.warm_up()


def gateway_of(here: Stores) -> KubernetesGateway:
    """A gateway to the API servers of all clusters of the store."""
    return KubernetesGateway(here.fleet.credentials, here.fleet.services, here.settings.kube)
