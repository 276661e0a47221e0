"""The registry: a system is three names, an LC policy, a BE policy and a sharing rule, so that any mix can be run."""

from tango.systems.registry import SYSTEMS, System, be_policy, lc_policy, system

__all__ = ["SYSTEMS", "System", "be_policy", "lc_policy", "system"]
