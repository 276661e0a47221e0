"""Which policy decides for a run: that of its system, loaded once per process. A promoted checkpoint overrides the scheduler's own file.

A policy that cannot be loaded is refused as one that fails when it is asked: the fallback decides, and the decision row says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from tango.control.checkpoint_roles import RolesFollowed
from tango.control.checkpoints import LIVE_POLICY
from tango.control.run_facts import RunFacts
from tango.errors import PolicyFailed, TangoError
from tango.ports.checkpoints import CheckpointStore
from tango.settings import Settings
from tango.systems import (
    BePolicy,
    LcPolicy,
    be_name,
    be_policy,
    in_one_line,
    lc_policy,
    read_checkpoint,
    stored_be_policy,
    system,
)

log = structlog.get_logger(__name__)


LOAD_AGAIN_S = 30.0
"""Seconds until a policy that could not be loaded is tried again. An import may take seconds, and requests wait behind it; what is wrong
is mended by somebody who installs a package or puts a file back, and then sees it work within half a minute."""

Policy = TypeVar("Policy")


class PoliciesLoaded(Generic[Policy]):
    """The policy of each system by name, loaded when it is first asked for. Thread-safe: at worst one is loaded twice."""

    def __init__(self, load: Callable[[str], Policy], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._monotonic = monotonic
        self._loaded: dict[str, Policy] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        """By name of a system: why its policy cannot be loaded, and when that was found."""

    def of(self, system_name: str) -> Policy:
        """The policy. Raises: PolicyFailed where it cannot be loaded, with the same reason for the next `LOAD_AGAIN_S` seconds.

        A reason is logged when it is new, and not each time that somebody asks.
        """
        if system_name in self._loaded:
            return self._loaded[system_name]
        told, found_at_s = self._refused.get(system_name, ("", 0.0))
        if told and self._monotonic() - found_at_s < LOAD_AGAIN_S:
            raise PolicyFailed(told)
        try:
            policy = self._load(system_name)
        except Exception as error:  # a package may raise anything, and a file may hold anything
            reason = in_one_line(error)
            self._refused[system_name] = (reason, self._monotonic())
            if reason != told:
                log.warning("policy_not_loaded", system=system_name, reason=reason)
            raise PolicyFailed(reason) from error
        if told:
            log.info("policy_loaded", system=system_name)
        self._refused.pop(system_name, None)
        self._loaded[system_name] = policy
        return policy


class LcPolicies:
    """The LC policy of each run."""

    def __init__(self, facts: RunFacts, settings: Settings) -> None:
        self._facts = facts
        self._loaded: PoliciesLoaded[LcPolicy] = PoliciesLoaded(lambda name: lc_policy(system(name).lc, settings))

    def of(self, run_id: int) -> LcPolicy:
        """The policy of the run's system. Raises: UsageError for a run that does not exist, PolicyFailed as `PoliciesLoaded.of`."""
        return self._loaded.of(self._facts.info(run_id).system)


class BePolicies:
    """The BE policy of each run, and the roles of the registry as this process follows them."""

    def __init__(self, facts: RunFacts, checkpoints: CheckpointStore, settings: Settings) -> None:
        self._facts = facts
        self._checkpoints = checkpoints
        self._settings = settings
        self._by_name: dict[str, BePolicy] = {}
        self._loaded: PoliciesLoaded[BePolicy] = PoliciesLoaded(lambda name: self._policy(system(name).be))
        self._own_checkpoint = ""
        """Digest of the file that this scheduler was started with."""
        self.roles = RolesFollowed(
            checkpoints,
            lambda name, content, where: stored_be_policy(name, content, where, settings),
            configured=lambda: self._own_checkpoint,
        )

    def of(self, run_id: int) -> BePolicy:
        """The policy of the run's system; where that is `LIVE_POLICY`, a promoted checkpoint overrides it. Raises: as `LcPolicies.of`."""
        name = self._facts.info(run_id).system
        if self.roles.live is not None and be_name(name) == LIVE_POLICY:
            return self.roles.live
        return self._loaded.of(name)

    def warm_up(self) -> None:
        """Load torch and the network before the first tick, and read the roles. A database that is away does not stop the start."""
        self._policy(LIVE_POLICY)
        try:
            found = read_checkpoint(self._settings.checkpoint)
            self._own_checkpoint = found.digest
            self._checkpoints.register(found)  # so that decisions can name it
        except TangoError as error:
            log.warning("checkpoint_not_registered", reason=str(error))
        try:
            self.roles.follow(noting=False)
        except TangoError as error:  # the first tick begins again
            log.warning("checkpoint_roles_not_read", reason=str(error))

    def _policy(self, name: str) -> BePolicy:
        """One object for each policy, also where several systems have it: requests of all of them are placed in one call."""
        if name not in self._by_name:
            self._by_name[name] = be_policy(name, self._settings)
        return self._by_name[name]
