"""One node by the definition of processor sharing, in plain floats and lists: slow, and short enough to be checked by reading.

Between two events every rate is constant. At each event all rates are worked out anew from what is in service, and every remaining
work goes down by rate x time; nothing is kept in virtual time and nothing is sorted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tango.domain.interference import PRESSURES, ServiceInterference


@dataclass(slots=True)
class Served:
    """An LC request on a node."""

    request: int
    left_s: float
    memory_mib: float
    started_s: float = math.nan


@dataclass(slots=True)
class Instance:
    """An LC instance: what it may use, who is in service, who waits."""

    service: int
    limit_cores: float
    memory_mib: float
    concurrency: int
    serving: list[Served] = field(default_factory=list)
    waiting: list[Served] = field(default_factory=list)

    def admit(self, now_s: float) -> None:
        """Whoever waits first starts as long as memory and concurrency hold; nobody overtakes."""
        while self.waiting and len(self.serving) < self.concurrency:
            held = sum(one.memory_mib for one in self.serving)
            if held + self.waiting[0].memory_mib > self.memory_mib:
                return
            one = self.waiting.pop(0)
            one.started_s = now_s
            self.serving.append(one)


@dataclass(slots=True)
class Pod:
    """A BE pod."""

    request: int
    weight: float
    limit_cores: float
    work_s: float
    left_s: float
    memory_mib: float
    started_s: float
    service: int = -1

    @property
    def done_s(self) -> float:
        """Nominal CPU-seconds it has done."""
        return self.work_s - self.left_s


@dataclass(slots=True)
class ReferenceNode:
    """A machine with its instances and pods."""

    cores: float
    beta: float
    instances: list[Instance]
    pods: list[Pod] = field(default_factory=list)
    neighbours: dict[int, ServiceInterference] = field(default_factory=dict)
    """By service, where the fleet declares it."""
    busy_s: float = 0.0
    """CPU-seconds used, inflation by interference included."""
    lc_work_s: float = 0.0
    """Nominal LC work done."""
    be_work_s: float = 0.0

    def rates(self) -> tuple[list[float], list[float], float, list[float]]:
        """(nominal work per second of each request of each instance, cores of each pod, cores in use by LC, nominal work per second of each
        pod)."""
        wanted = [min(float(len(i.serving)), i.limit_cores) for i in self.instances]
        total = sum(wanted)
        lc_cores = min(total, self.cores)
        pods = self._filled(self.cores - lc_cores)
        inflation = 1.0 + self.beta * sum(pods) / self.cores
        scale = lc_cores / total if total > 0 else 0.0
        used = [(i.service, want * scale) for want, i in zip(wanted, self.instances, strict=True)]
        used += [(pod.service, cores) for pod, cores in zip(self.pods, pods, strict=True)]
        per_request = [
            cores / len(i.serving) / self._slower(k, used, inflation) if i.serving else 0.0
            for k, (i, (_, cores)) in enumerate(zip(self.instances, used[: len(self.instances)], strict=True))
        ]
        per_pod = [cores / self._slower(len(wanted) + k, used, 1.0) for k, cores in enumerate(pods)]
        return per_request, pods, lc_cores, per_pod

    def _slower(self, me: int, used: list[tuple[int, float]], unsaid: float) -> float:
        """By how much the work of one of those who use the node takes longer, by what each of the others takes of each resource."""
        mine = self.neighbours.get(used[me][0])
        if mine is None or mine.sensitivity is None:
            return unsaid
        others = [(self.neighbours[s].pressure, cores) for k, (s, cores) in enumerate(used) if k != me and s in self.neighbours]
        taken = [min(1.0, sum(pressure[k] * cores / self.cores for pressure, cores in others)) for k in range(len(PRESSURES))]
        return 1.0 + sum(sensitivity * share for sensitivity, share in zip(mine.sensitivity, taken, strict=True))

    def _filled(self, free_cores: float) -> list[float]:
        """Water-filling: whoever would get more than its cap by weight gets its cap, and the rest is shared anew."""
        cores = [0.0] * len(self.pods)
        open_pods = list(range(len(self.pods)))
        while open_pods:
            weight = sum(self.pods[p].weight for p in open_pods)
            capped = [p for p in open_pods if self.pods[p].limit_cores <= free_cores * self.pods[p].weight / weight]
            if not capped:
                for p in open_pods:
                    cores[p] = free_cores * self.pods[p].weight / weight
                break
            for p in capped:
                cores[p] = self.pods[p].limit_cores
                free_cores -= cores[p]
                open_pods.remove(p)
            free_cores = max(0.0, free_cores)
        return cores

    def next_end_s(self, now_s: float) -> float:
        """When the next request or pod ends if nothing else happens."""
        per_request, _, _, per_pod = self.rates()
        left = [one.left_s / rate for rate, i in zip(per_request, self.instances, strict=True) for one in i.serving if rate > 0]
        left += [pod.left_s / rate for rate, pod in zip(per_pod, self.pods, strict=True) if rate > 0]
        left += [0.0 for pod in self.pods if pod.left_s <= 0]
        return now_s + max(0.0, min(left, default=math.inf))

    def run(self, for_s: float) -> None:
        """Let time pass; nobody ends on the way."""
        if for_s <= 0:
            return
        per_request, pods, lc_cores, per_pod = self.rates()
        for rate, instance in zip(per_request, self.instances, strict=True):
            for one in instance.serving:
                one.left_s -= rate * for_s
                self.lc_work_s += rate * for_s
        for rate, pod in zip(per_pod, self.pods, strict=True):
            pod.left_s -= rate * for_s
            self.be_work_s += rate * for_s
        self.busy_s += (lc_cores + sum(pods)) * for_s

    def end_one(self, now_s: float) -> Served | Pod:
        """Take out what is nearest to its end, which is now."""
        per_request, _, _, per_pod = self.rates()
        ends: list[tuple[float, Served | Pod, Instance | None]] = [
            (one.left_s / rate, one, i)
            for rate, i in zip(per_request, self.instances, strict=True)
            if rate > 0
            for one in i.serving
        ]
        ends += [
            (0.0 if pod.left_s <= 0 else pod.left_s / rate, pod, None)
            for rate, pod in zip(per_pod, self.pods, strict=True)
            if rate > 0 or pod.left_s <= 0
        ]
        _, ended, instance = min(ends, key=lambda end: end[0])
        if isinstance(ended, Pod):
            self.pods.remove(ended)
        else:
            assert instance is not None
            instance.serving.remove(ended)
            instance.admit(now_s)
        return ended
