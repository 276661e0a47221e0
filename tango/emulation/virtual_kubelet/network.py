"""Network delays of LC requests: half the round-trip time each way, and half the payload each way over a shared link.

A cluster has one full-duplex link to all others. Transfers in one direction follow one another (first in, first out), so that the link's
bandwidth is shared and never exceeded. Fair sharing among concurrent transfers would end them in another order with the same total.
Payloads take little time beside the round trip, so the simpler order was chosen.
"""

from __future__ import annotations

from tango.domain.fleet import Fleet

_BITS_PER_KIB = 8192  # 1 KiB of 8-bit bytes; the link's unit is 10^6 bits per second


class ClusterNetwork:
    """Delays between one cluster and all others. Times are seconds on the caller's clock, and must not decrease between calls."""

    def __init__(self, fleet: Fleet, cluster: str) -> None:
        row = [c.name for c in fleet.clusters].index(cluster)
        self._half_rtt_s = {c.name: float(ms) / 2e3 for c, ms in zip(fleet.clusters, fleet.rtt_ms()[row], strict=True)}
        self._cluster = cluster
        self._s_per_kib = _BITS_PER_KIB / (fleet.network.bandwidth_mbit_per_s * 1e6)
        self._inward_free_s = 0.0
        self._outward_free_s = 0.0

    def arrival_s(self, entry: str, payload_kib: float, sent_s: float) -> float:
        """The time at which a request sent at `sent_s` from its entry cluster arrives here. An unknown cluster counts as this one."""
        if entry == self._cluster or entry not in self._half_rtt_s:
            return sent_s + self._half_rtt_s[self._cluster]
        self._inward_free_s = max(self._inward_free_s, sent_s) + payload_kib / 2 * self._s_per_kib
        return self._inward_free_s + self._half_rtt_s[entry]

    def answer_s(self, entry: str, payload_kib: float, finished_s: float) -> float:
        """The time at which the answer to a request that finished at `finished_s` arrives at its entry cluster."""
        if entry == self._cluster or entry not in self._half_rtt_s:
            return finished_s + self._half_rtt_s[self._cluster]
        self._outward_free_s = max(self._outward_free_s, finished_s) + payload_kib / 2 * self._s_per_kib
        return self._outward_free_s + self._half_rtt_s[entry]
