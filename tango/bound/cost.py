"""Prints the time that the QoS bound takes and how it depends on the bucket, for requests drawn on a built-in fleet.

python -m tango.bound.cost [FLEET [PATTERN [SECONDS [LOAD]]]]
"""

from __future__ import annotations

import sys
import time

from tango.bound.qos import qos_of
from tango.domain.services import ServiceClass
from tango.fleets.catalog import load_fleet
from tango.traces.workloads import Workload, draw_requests

BUCKETS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
LC_SHARE = 0.6
"""LC's share of the load, so high that LC alone overloads the fleet at times; where everything fits the bound is trivial."""


def main(fleet_name: str = "testbed", pattern: str = "borg", seconds: str = "300", load: str = "1.5") -> None:
    """Print the QoS bound and the seconds it takes, with the bucket that `qos_of` chooses and with each of `BUCKETS_S`."""
    fleet = load_fleet(fleet_name)
    workload = Workload(lc=(pattern,), be=(pattern,), duration_s=float(seconds), load=float(load), lc_load_share=LC_SHARE)
    requests = draw_requests(workload, fleet, seed=1)
    lc = int((requests.service_class == ServiceClass.LC).sum())
    print(f"{fleet_name}, {pattern}, {seconds} s, load {load}, LC share {LC_SHARE}, seed 1: {len(requests)} requests, {lc} LC")
    print(f"{'bucket_s':>10} {'qos bound':>10} {'seconds':>8}")
    for bucket_s in (None, *BUCKETS_S):
        begun_s = time.perf_counter()
        found = qos_of(fleet, requests, span_s=workload.duration_s, bucket_s=bucket_s)
        chosen = "chosen " if bucket_s is None else ""
        print(f"{chosen + format(found.bucket_s, 'g'):>10} {found.rate or 0.0:10.5f} {time.perf_counter() - begun_s:8.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
