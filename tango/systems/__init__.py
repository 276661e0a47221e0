"""The registry: a system is three names, an LC policy, a BE policy and a sharing rule, so that any mix can be run."""

from tango.systems.registry import (
    SYSTEMS,
    BePolicy,
    LcPolicy,
    System,
    be_names,
    be_policy,
    lc_names,
    lc_policy,
    lc_tunable,
    learned_policies,
    mixed,
    policy_source_digest,
    read_checkpoint,
    stored_be_policy,
    system,
    warm_up_lc,
)

__all__ = [
    "SYSTEMS",
    "BePolicy",
    "LcPolicy",
    "System",
    "be_names",
    "be_policy",
    "lc_names",
    "lc_policy",
    "lc_tunable",
    "learned_policies",
    "mixed",
    "policy_source_digest",
    "read_checkpoint",
    "stored_be_policy",
    "system",
    "warm_up_lc",
]
