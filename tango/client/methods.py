"""Methods of HTTP, by what may be done with a request of theirs."""

from __future__ import annotations

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose requests may be sent again when nobody knows whether they were served (RFC 9110, section 9.2.2)."""
