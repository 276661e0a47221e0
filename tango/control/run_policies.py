"""Which policy decides for a run: that of its system, loaded once per process. A promoted checkpoint overrides the scheduler's own file."""

from __future__ import annotations

import structlog

from tango.control.checkpoint_roles import RolesFollowed
from tango.control.checkpoints import LIVE_POLICY
from tango.control.run_facts import RunFacts
from tango.errors import TangoError
from tango.ports.checkpoints import CheckpointStore
from tango.settings import Settings
from tango.systems import BePolicy, LcPolicy, be_policy, lc_policy, read_checkpoint, stored_be_policy, system

log = structlog.get_logger(__name__)


class LcPolicies:
    """The LC policy of each run."""

    def __init__(self, facts: RunFacts, settings: Settings) -> None:
        self._facts = facts
        self._settings = settings

    def of(self, run_id: int) -> LcPolicy:
        """The policy of the run's system. Raises: UsageError for a run or a policy that does not exist."""
        return lc_policy(system(self._facts.info(run_id).system).lc, self._settings)


class BePolicies:
    """The BE policy of each run, and the roles of the registry as this process follows them."""

    def __init__(self, facts: RunFacts, checkpoints: CheckpointStore, settings: Settings) -> None:
        self._facts = facts
        self._checkpoints = checkpoints
        self._settings = settings
        self._loaded: dict[str, BePolicy] = {}
        self._own_checkpoint = ""
        """Digest of the file that this scheduler was started with."""
        self.roles = RolesFollowed(
            checkpoints,
            lambda name, content, where: stored_be_policy(name, content, where, settings),
            configured=lambda: self._own_checkpoint,
        )

    def of(self, run_id: int) -> BePolicy:
        """The policy of the run's system; where that is `LIVE_POLICY`, a promoted checkpoint overrides it. Raises: as `LcPolicies.of`."""
        name = system(self._facts.info(run_id).system).be
        if name == LIVE_POLICY and self.roles.live is not None:
            return self.roles.live
        return self._policy(name)

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
        if name not in self._loaded:
            self._loaded[name] = be_policy(name, self._settings)
        return self._loaded[name]
