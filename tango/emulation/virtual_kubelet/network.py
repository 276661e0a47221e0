"""What the network adds to an LC request: half the round trip each way, and half the payload over a shared link each way.

A cluster hangs on one link to the others, which carries both directions at once. Transfers of one direction follow one another, so
that the link's bandwidth is shared and never exceeded. A fair split among transfers under way would end them in another order with
the same total; payloads are small beside the round trip, so the simple order was taken.
"""

from __future__ import annotations

from tango.domain.fleet import Fleet

_BITS_PER_KIB = 8192


class ClusterNetwork:
    """Delays between every cluster and this one. Times are on the caller's clock."""

    def __init__(self, fleet: Fleet, cluster: str) -> None:
        row = [c.name for c in fleet.clusters].index(cluster)
        self._half_rtt_s = {c.name: float(ms) / 2e3 for c, ms in zip(fleet.clusters, fleet.rtt_ms()[row], strict=True)}
        self._cluster = cluster
        self._s_per_kib = _BITS_PER_KIB / (fleet.network.bandwidth_mbit_per_s * 1e6)
        self._inward_free_s = 0.0
        self._outward_free_s = 0.0

    def arrival_s(self, entry: str, payload_kib: float, sent_s: float) -> float:
        """When a request sent at `sent_s` by the entry cluster is here. A cluster nobody knows counts as this one."""
        if entry == self._cluster or entry not in self._half_rtt_s:
            return sent_s + self._half_rtt_s[self._cluster]
        self._inward_free_s = max(self._inward_free_s, sent_s) + payload_kib / 2 * self._s_per_kib
        return self._inward_free_s + self._half_rtt_s[entry]

    def answer_s(self, entry: str, payload_kib: float, finished_s: float) -> float:
        """When the answer to a request that finished at `finished_s` is at the entry cluster."""
        if entry == self._cluster or entry not in self._half_rtt_s:
            return finished_s + self._half_rtt_s[self._cluster]
        self._outward_free_s = max(self._outward_free_s, finished_s) + payload_kib / 2 * self._s_per_kib
        return self._outward_free_s + self._half_rtt_s[entry]
