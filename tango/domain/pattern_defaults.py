"""Load and length of a pattern where nobody says them; apart from what draws patterns, since help texts name them too."""

from __future__ import annotations

DEFAULT_LOAD = 0.8
"""Offered CPU work over the fleet's CPU, for patterns: busy enough that systems differ, and a good one can still serve all."""
DEFAULT_DURATION_S = 600.0
"""Seconds of arrivals, for patterns. Chosen, not measured."""
