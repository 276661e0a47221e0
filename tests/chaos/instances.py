"""Calls of LC requests to instances in a chaos world: implements `tango.ports.instances.InstanceCalls` over its network and kubelets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import InstanceFailed
from tango.ports.instances import Served
from tests.chaos.cluster import Kubelets
from tests.chaos.network import Network
from tests.chaos.timeline import Timeline


class SimulatedCalls:
    """The calls of one worker of a cluster."""

    def __init__(
        self,
        cluster: str,
        kubelets: Mapping[str, Kubelets],
        timeline: Timeline,
        network: Network,
        dice: random.Random,
        served: Callable[[LcWork], None],
    ) -> None:
        """`served` hears of every request that an instance has served, whether its answer arrives or not."""
        self._cluster, self._kubelets, self._timeline = cluster, kubelets, timeline
        self._network, self._dice, self._served = network, dice, served

    async def call(
        self, instance: InstanceState, work: LcWork, *, payload_kib: float, timeout_s: float, traceparent: str = ""
    ) -> Served:
        """One exchange."""
        there = work.node.cluster
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(instance, work, there)
        except TimeoutError as error:
            raise InstanceFailed(f"instance {instance.pod} did not answer", reason=Reason.TIMED_OUT) from error

    async def _exchange(self, instance: InstanceState, work: LcWork, there: str) -> Served:
        kubelets, network = self._kubelets[there], self._network
        with self._timeline.step(f"call {work.run_id}/{work.request_id}/{work.epoch}", 0.0):
            pass
        if (closed_s := network.open_in_s(self._cluster, there)) > 0.0:
            await asyncio.sleep(closed_s)
        await asyncio.sleep(network.latency_s(self._cluster, there))
        if instance.node in kubelets.hangs:
            network.seen.add("node hangs")
            await asyncio.sleep(kubelets.hangs[instance.node] - self._timeline.now_s)
        if instance.uid not in kubelets.running:
            raise InstanceFailed(f"instance {instance.pod} is not there", reason=Reason.INSTANCE_UNREACHABLE)
        began_s = self._timeline.now_s
        await asyncio.sleep(work.cpu_work_s * self._dice.uniform(1.0, 3.0))
        if instance.uid not in kubelets.running:
            raise InstanceFailed(f"instance {instance.pod} went away", reason=Reason.INSTANCE_UNREACHABLE)
        self._served(work)
        if network.loses_answer(self._cluster, there):
            await asyncio.sleep(1e6)
        return Served(started_at_s=began_s, finished_at_s=self._timeline.now_s)

    async def probe(self, instance: InstanceState, *, timeout_s: float) -> bool:
        """Whether it is there and its node is well."""
        node = instance.node
        await asyncio.sleep(0.002)
        return any(instance.uid in k.running and node not in k.hangs for k in self._kubelets.values())

    async def close(self) -> None:
        """Nothing is open."""
