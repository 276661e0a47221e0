"""The end of LC instances' start: with the CPU limit for it they are made, and with the declared one they go on once they are ready.

The agent ends it, which is beside the cluster and sees readiness first; re-assurance moves only instances that are ready. Live alone:
instances of a simulation stand from the beginning, and one that comes back with its node takes `sim.pod_start_s` whatever its CPU is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from tango.control.observe_cluster import main_container, pod_class, standing
from tango.domain.backoff import Backoff
from tango.domain.quantities import cpu_millicores
from tango.domain.services import Service
from tango.errors import ClusterError, ClusterUnavailable
from tango.ports.clusters import ClusterWatch

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]


class StartupBoost:
    """Of one cluster's instances, in one process: each is looked at once after it is ready, since what its limit is later others decide.

    After a restart of the agent an instance that re-assurance has given exactly the limit of the start gets the declared one once more;
    re-assurance then does as it does with any other.
    """

    def __init__(self, cluster: str, watch: ClusterWatch) -> None:
        self._cluster, self._watch = cluster, watch
        self._ended: set[str] = set()
        """Uids of instances whose start is over."""
        self._paused = Backoff()
        """By uid, resizes that failed."""

    async def end(self, services: Sequence[Service], now_s: float) -> bool:
        """Give every instance that has become ready its declared limit; gives whether nothing is left to be tried again.

        `now_s`: of the monotonic clock. A call that fails is tried again after a pause.
        """
        boosted = {s.name: s for s in services if s.startup_cpu_limit_millicores}
        if not boosted:
            return True
        pods = {str(pod["metadata"]["uid"]): pod for pod in self._watch.pods() if pod_class(pod) == "lc"}
        self._ended &= pods.keys()
        is_done = True
        for uid, pod in pods.items():
            found = standing(pod)
            service = None if found is None else boosted.get(found.service)
            if uid in self._ended or found is None or not found.ready or service is None:
                continue
            if not self._paused.is_open(uid, now_s):
                is_done = False
                continue
            is_done &= await self._to_declared(pod, uid, service, now_s)
        return is_done

    async def _to_declared(self, pod: Json, uid: str, service: Service, now_s: float) -> bool:
        container = main_container(pod)
        limit = ((container.get("resources") or {}).get("limits") or {}).get("cpu")
        name = self._watch.name_of(pod)
        if limit is not None and cpu_millicores(limit) == service.startup_cpu_limit_millicores:
            try:
                await self._watch.set_cpu_limit(name, str(container["name"]), service.cpu_limit_millicores)
            except (ClusterError, ClusterUnavailable) as error:
                log.warning("startup_boost_not_ended", cluster=self._cluster, pod=name, error=str(error))
                self._paused.failed(uid, now_s)
                return False
            log.info("startup_boost_ended", cluster=self._cluster, pod=name, cpu_limit_millicores=service.cpu_limit_millicores)
        self._paused.went_well(uid)
        self._ended.add(uid)
        return True
