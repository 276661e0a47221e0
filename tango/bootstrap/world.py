"""One process's view of everything: stores, gateway, policies, and the use cases bound to them.

Built per process and lazily, after any fork. What a process never uses is never imported into its life: the network is loaded by the
scheduler alone.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from collections.abc import Sequence

import structlog

from tango.bootstrap.environment import read_settings
from tango.bootstrap.stores import Stores
from tango.control.admission import admit_be
from tango.control.cancel_run import CancelSweep
from tango.control.checkpoint_roles import RolesFollowed
from tango.control.checkpoints import LIVE_POLICY
from tango.control.dispatch_lc import dispatch_waiting_lc
from tango.control.execute_lc import InstanceDirectory, LcExecutor
from tango.control.finish_run import finish_run
from tango.control.fleet_view import FleetView
from tango.control.place_be import place_pending_be
from tango.control.reassure import Reassurance
from tango.control.reconcile import reconcile
from tango.control.replay import replay_slice
from tango.errors import TangoError
from tango.kube.gateway import KubernetesGateway
from tango.kube.instance_calls import HttpInstanceCalls
from tango.ports import Publisher
from tango.scheduling.sharing import common_rule
from tango.settings import Settings
from tango.systems import BePolicy, be_policy, lc_policy, read_checkpoint, stored_be_policy, system, warm_up_lc

log = structlog.get_logger(__name__)


class World(Stores):
    """One process's view of everything: stores, gateway, policies, and the use cases bound to them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self._executor_lock = threading.Lock()
        self._view = FleetView(lambda: self.fleet.snapshot(at_s=self.clock.now_s()), max_age_s=settings.lc.snapshot_max_age_s)
        self._be_policies: dict[str, BePolicy] = {}
        self._executor: LcExecutor | None = None
        self._own_checkpoint = ""
        """Digest of the file that this scheduler was started with."""

    @functools.cached_property
    def gateway(self) -> KubernetesGateway:
        """Calls to all joined clusters; its event loop starts with the first call."""
        return KubernetesGateway(self.fleet.credentials, self.fleet.services, self.settings.kube)

    def be_policy_of(self, run_id: int) -> BePolicy:
        """The BE policy of a run's system; of the learned one, what is promoted goes before the scheduler's own file."""
        name = system(self.run_facts.info(run_id).system).be
        if name == LIVE_POLICY and self.roles.live is not None:
            return self.roles.live
        return self._be_policy(name)

    @functools.cached_property
    def roles(self) -> RolesFollowed:
        """The registry's roles, as this process carries them out."""
        return RolesFollowed(
            self.checkpoints,
            lambda name, content, where: stored_be_policy(name, content, where, self.settings),
            configured=lambda: self._own_checkpoint,
        )

    def _be_policy(self, name: str) -> BePolicy:
        if name not in self._be_policies:
            self._be_policies[name] = be_policy(name, self.settings)
        return self._be_policies[name]

    def _register_checkpoint(self) -> None:
        """Note the scheduler's own network, so that decisions can name it. A database that is away is no reason not to start."""
        try:
            found = read_checkpoint(self.settings.checkpoint)
            self._own_checkpoint = found.digest
            self.checkpoints.register(found)
        except TangoError as error:
            log.warning("checkpoint_not_registered", reason=str(error))

    def warm_up(self, *, places_be: bool) -> None:
        """Compile and load what the first request would otherwise wait for: torch and the network only where BE is placed."""
        if places_be:
            self._be_policy("dcg-be")
            self._register_checkpoint()
            try:
                self.roles.follow(noting=False)
            except TangoError as error:  # the first tick begins again
                log.warning("checkpoint_roles_not_read", reason=str(error))
        else:
            warm_up_lc(self.settings.lc)

    @functools.cached_property
    def reassurance(self) -> Reassurance:
        """QoS re-assurance with its memory of recent resizes."""
        return Reassurance(
            fleet=self.fleet, events=self.events, requests=self.requests, gateway=self.gateway, settings=self.settings.sharing
        )

    def replay_slice(self, run_id: int, publisher: Publisher) -> dict[str, int | bool]:
        """One slice of the release of a run."""
        return replay_slice(
            run_id,
            owner=f"{self.owner}:{threading.get_ident()}",
            runs=self.runs,
            requests=self.requests,
            leases=self.leases,
            publisher=publisher,
            clock=self.clock,
            sleep=time.sleep,
            settings=self.settings.replay,
        )

    def dispatch_lc(self, run_id: int, cluster: str, request_ids: Sequence[int], publisher: Publisher) -> dict[str, int]:
        """Plan, record and send one batch of LC arrivals."""
        policy = lc_policy(system(self.run_facts.info(run_id).system).lc, self.settings)
        return dispatch_waiting_lc(
            run_id,
            cluster,
            request_ids,
            policy=policy,
            requests=self.requests,
            starter=self.executor(publisher) if self.settings.lc.start_here else None,
            owner=self.owner,
            view=self._view,
            publisher=publisher,
            settings=self.settings.lc,
            lease=self.settings.lease,
        )

    def execute_lc(self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], publisher: Publisher) -> int:
        """Claim dispatched LC requests and start their calls."""
        return self.executor(publisher).execute(run_id, cluster, request_ids, epochs, owner=self.owner)

    def executor(self, publisher: Publisher) -> LcExecutor:
        """The process's one executor."""
        with self._executor_lock:
            if self._executor is None:
                self._executor = LcExecutor(
                    requests=self.requests,
                    directory=InstanceDirectory(self.fleet),
                    calls=HttpInstanceCalls,
                    publisher=publisher,
                    run_zero_s=self.run_facts.zero_s,
                    settings=self.settings.lc,
                    lease=self.settings.lease,
                )
            return self._executor

    def admit_be(self, run_id: int, request_ids: Sequence[int]) -> dict[str, int]:
        """Admit one batch of BE arrivals."""
        return admit_be(run_id, request_ids, requests=self.requests, snapshot=self._view.current())

    def place_be(self) -> dict[str, int]:
        """One scheduling cycle of the centre."""
        return place_pending_be(
            owner=self.owner,
            policy_of=self.be_policy_of,
            requests=self.requests,
            fleet=self.fleet,
            leases=self.leases,
            gateway=self.gateway,
            clock=self.clock,
            settings=self.settings.be,
            lease=self.settings.lease,
            roles=self.roles,
            checkpoints=self.checkpoints,
        )

    def reassure(self) -> dict[str, int]:
        """One round of re-assurance; without a run that wants it, instances go back to their declared size."""
        if self.leases.acquire("reassure", owner=self.owner, ttl_s=5.0) is None:
            return {"resizes": 0, "evictions": 0}
        rule = common_rule([system(run.system).sharing for run in self.runs.active_runs() if run.reassure])
        if rule == "static":
            return self.reassurance.restore(now_s=self.clock.now_s())
        return self.reassurance.round(now_s=self.clock.now_s(), rule=rule)

    @functools.cached_property
    def cancel_sweep(self) -> CancelSweep:
        """The background part of cancellations."""
        return CancelSweep(
            runs=self.runs,
            records=self.records,
            leases=self.leases,
            gateway=lambda: self.gateway,
            clock=self.clock,
            sleep=time.sleep,
            settings=self.settings.cancel,
        )

    def reconcile(self, publisher: Publisher) -> dict[str, int]:
        """One sweep."""
        return reconcile(
            owner=self.owner,
            runs=self.runs,
            requests=self.requests,
            leases=self.leases,
            publisher=publisher,
            finish_run=lambda run: finish_run(run, runs=self.runs, records=self.records),
            settings=self.settings.lease,
        )


@functools.cache
def world() -> World:
    """This process's world, built at the first call."""
    return World(read_settings())
