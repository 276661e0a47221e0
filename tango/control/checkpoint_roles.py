"""How a scheduler follows the roles in the registry of checkpoints: read once per tick, loaded between two decisions.

A checkpoint that cannot be used changes nothing: the policy in use goes on deciding, and the reason is recorded in every decision row, in
the log and in the registry. Files come from the store, so that a scheduler on any host can use what was registered on another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tango.control.checkpoints import LIVE_POLICY
from tango.domain.checkpoints import SHORT, CheckpointRoles
from tango.errors import CheckpointError, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.systems import BePolicy

log = structlog.get_logger(__name__)

Load = Callable[[str, bytes, str], BePolicy]
"""(name of the policy, content of the file, name of the file for messages) → the policy. Raises: CheckpointError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCandidate:
    """The checkpoint that decides in the shadow: its decisions are recorded and not acted on."""

    digest: str
    policy: BePolicy | None
    refused: str = ""
    """The reason where `policy` is None."""


class RolesFollowed:
    """The policies by which this scheduler decides. Call `follow` once per tick, before the decision. Thread-safe."""

    def __init__(self, store: CheckpointStore, load: Load, *, configured: Callable[[], str]) -> None:
        """`configured` gives the digest of the scheduler's own file, empty where it has none that can be used."""
        self._store, self._load, self._configured = store, load, configured
        self._lock = threading.Lock()
        self._seen: int | None = None
        self._live_digest = ""
        self.live: BePolicy | None = None
        """The promoted policy; None: the scheduler's own file decides."""
        self.candidate: ShadowCandidate | None = None
        self.remark = ""
        """For the decision row: which promoted checkpoint cannot be used, and why. Empty where all is well."""

    def follow(self, *, noting: bool = True) -> None:
        """Read the registry, load checkpoints whose role is new, and record there which policy decides.

        A scheduler that does not hold the lease passes `noting` False: it does not decide, so it must not report a policy.
        Raises: StoreUnavailable; the next call then starts over.
        """
        with self._lock:
            roles = self._store.roles()
            if roles.generation != self._seen:
                self._follow_live(roles)
                self._follow_shadow(roles)
                self._seen = roles.generation
            own = self._configured()
            here = (own, self._live_digest or own)
            if noting and here != (roles.configured, roles.deciding):
                self._store.decides(configured=here[0], deciding=here[1])

    def _follow_live(self, roles: CheckpointRoles) -> None:
        self.remark = ""
        if not roles.live:
            self.live, self._live_digest = None, ""
            return
        policy, refused = self._loaded(roles.live, LIVE_POLICY)
        if policy is not None:
            self.live, self._live_digest = policy, roles.live
            return
        self.remark = f"promoted {roles.live[:SHORT]} refused: {refused}"
        if self._seen is not None or self.live is not None:
            return
        # A scheduler that has just started holds no policy that could go on: it takes the one that `demote` would go back to.
        for digest in reversed(roles.before):
            policy, _ = self._loaded(digest, LIVE_POLICY)
            if policy is not None:
                self.live, self._live_digest = policy, digest
                return

    def _follow_shadow(self, roles: CheckpointRoles) -> None:
        if not roles.shadow:
            self.candidate = None
            return
        policy, refused = self._loaded(roles.shadow, None)
        self.candidate = ShadowCandidate(digest=roles.shadow, policy=policy, refused=refused)

    def _loaded(self, digest: str, expected: str | None) -> tuple[BePolicy | None, str]:
        """The policy, or the reason why there is none; what was loaded or refused now is reported to the registry."""
        began_s, refused, policy = time.perf_counter(), "", None
        if self.live is not None and digest == self._live_digest and expected == LIVE_POLICY:
            return self.live, ""
        if (
            self.candidate is not None
            and digest == self.candidate.digest
            and self.candidate.policy is not None
            and expected is None
        ):
            return self.candidate.policy, ""
        try:
            found = self._store.find(digest)
            where = f"{found.name} ({digest[:SHORT]})"
            policy = self._load(expected or found.policy, self._store.content(digest), where)
        except (CheckpointError, UsageError) as error:
            refused = str(error)
            log.warning("checkpoint_refused", digest=digest[:SHORT], reason=refused)
        else:
            log.info("checkpoint_loaded", digest=digest[:SHORT], load_ms=round((time.perf_counter() - began_s) * 1e3, 1))
        self._store.used(digest, refused=refused)
        return policy, refused
