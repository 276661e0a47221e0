"""The registry, and the step that asks a policy and checks its plan.

A system is three names, an LC policy, a BE policy and a sharing rule, so that any mix can be run; `step` is how both worlds decide by it.
"""

from tango.domain.systems import SYSTEMS, System
from tango.systems.registry import (
    BePolicy,
    LcPolicy,
    be_name,
    be_names,
    be_policy,
    lc_names,
    lc_policy,
    lc_tunable,
    learned_policies,
    mixed,
    origin,
    policy_source_digest,
    read_checkpoint,
    sharing_rules,
    stored_be_policy,
    system,
    usable_system,
)
from tango.systems.step import LC_FALLBACK, decided_be, decided_lc, in_one_line

__all__ = [
    "LC_FALLBACK",
    "SYSTEMS",
    "BePolicy",
    "LcPolicy",
    "System",
    "be_name",
    "be_names",
    "be_policy",
    "decided_be",
    "decided_lc",
    "in_one_line",
    "lc_names",
    "lc_policy",
    "lc_tunable",
    "learned_policies",
    "mixed",
    "origin",
    "policy_source_digest",
    "read_checkpoint",
    "sharing_rules",
    "stored_be_policy",
    "system",
    "usable_system",
]
