"""LC and BE side by side on the kernel that this runs on: LC alone, beside BE as Kubernetes leaves it, and with the node agent.

It imports the standard library and the agent alone: `guest.py` packs it for a kernel of its own.

LC is an open loop: on each CPU a program whose requests arrive by chance (Poisson, the same draws in each phase) and need `WORK_S` of CPU
each; a latency is from arrival to end, the queue included. BE are two pods that compute and stream memory on all CPUs at once, with the
CPU requests that Kubernetes makes weights of.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tango.bench.kernel_pods import KernelNode, KernelPod, kernel_node

WORK_S = 0.010
"""CPU of a request: short enough for hundreds in a phase, long beside a scheduler's slice."""
LOAD = 0.3
"""Share of each CPU that LC uses: with more, its own queue is what is measured."""
BE_PODS = 2
LC_REQUEST, BE_REQUEST = 600, 500
"""Millicores that Kubernetes makes weights of: LC's mean on two CPUs, BE as in Tango's fleets."""
SETTLE_S = 2.0
"""Seconds of each phase before anything is measured: BE's first moments, until the agent has looked, are no steady state."""
LC_PROGRAM = """
import json, random, sys, time
work_s, rate, settle, seconds, seed = map(float, sys.argv[1:])
chance = random.Random(seed)
input()
due = time.monotonic()
begin = due + settle
end, latencies = begin + seconds, []
while True:
    due += chance.expovariate(rate)
    if due > end:
        break
    now = time.monotonic()
    if due > now:
        time.sleep(due - now)
    done = time.thread_time() + work_s
    while time.thread_time() < done:
        pass
    if due > begin:
        latencies.append(time.monotonic() - due)
print(json.dumps(latencies), flush=True)
"""
BE_PROGRAM = """
block = bytearray(4 << 20)
while True:
    bytes(block)
    for _ in range(20000):
        pass
"""
PHASES = ("alone", "unmanaged", "managed")
MANY_LC, MANY_BE = 10, 30
"""Pods of a node that is well filled, for what looks at them cost; nothing runs in them."""
LOOKS = 100
"""Looks of the agent that are timed: enough for a mean of microseconds to stand still."""


def run(arguments: dict[str, Any]) -> dict[str, Any]:
    """`{version, cpus, rounds: [{phase: figures}], look_at_many_ms}`. Figures of a phase are `p99_ms p50_ms requests be_share
    be_share_beside_others others` (the share of the CPUs that neither LC nor BE nor the agent has used), and of the one with the agent
    `looks look_ms quota pressure`: how often it looked, the CPU of a look, the mean of the share that BE may take, and the 90th percentile
    of LC's pressure at looks. Arguments: `root`, `seconds`, `rounds`.
    """
    with kernel_node(Path(arguments["root"]), time.monotonic) as node:
        node.take_precedence()
        lc = node.pod("lc", cpu=node.cpus * 1000, memory_mib=128, request=LC_REQUEST)
        be = [node.pod("be", cpu=node.cpus * 1000, memory_mib=128, request=BE_REQUEST) for _ in range(BE_PODS)]
        rounds = [
            {phase: _phase(node, lc, be, phase, seconds=arguments["seconds"], seed=number) for phase in PHASES}
            for number in range(arguments["rounds"])
        ]
        found = {"version": node.hierarchy.version, "cpus": node.cpus, "rounds": rounds}
    return found | {"look_at_many_ms": _look_at_many_ms(Path(arguments["root"]))}


def _look_at_many_ms(root: Path) -> float:
    """CPU of a look at a node that is well filled, nothing of which presses."""
    with kernel_node(root) as node:
        for number in range(MANY_LC + MANY_BE):
            node.pod("lc" if number < MANY_LC else "be", cpu=500, memory_mib=64)
        node.step()
        before_s = time.thread_time()
        for _ in range(LOOKS):
            node.step()
        return 1000 * (time.thread_time() - before_s) / LOOKS


def _phase(node: KernelNode, lc: KernelPod, be: list[KernelPod], phase: str, *, seconds: float, seed: int) -> dict[str, float]:
    parts = (WORK_S, LOAD / WORK_S, SETTLE_S, seconds)
    serving = [lc.start(LC_PROGRAM, *map(str, parts), str(100 * seed + cpu)) for cpu in range(node.cpus)]
    for pod in be if phase != "alone" else ():
        for _ in range(node.cpus):
            pod.start(BE_PROGRAM)
    try:
        for program in serving:
            lc.tell(program)
        looks = _Looks() if phase == "managed" else None
        _wait(node, SETTLE_S, looks)
        before = time.monotonic(), _used_us([lc]), _used_us(be), _busy_us()
        _wait(node, seconds, looks)
        after = time.monotonic(), _used_us([lc]), _used_us(be), _busy_us()
        latencies = [latency for program in serving for latency in json.loads(program.communicate()[0])]
    finally:
        lc.end()
        for pod in be:
            pod.end()
        if phase == "managed":
            node.agent.restore()
            node.started()
    whole_us, lc_us, be_us = node.cpus * (after[0] - before[0]) * 1e6, after[1] - before[1], after[2] - before[2]
    # The looks count as the agent's, not as others': they are part of what it costs.
    looks_us = looks.cpu_s * 1e6 if looks else 0.0
    others_us = min(max(0.0, after[3] - before[3] - lc_us - be_us - looks_us), whole_us - lc_us - be_us)
    ordered = sorted(latencies)
    return {
        "p99_ms": 1000 * ordered[int(0.99 * len(ordered))],
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "requests": len(ordered),
        "be_share": be_us / (whole_us - lc_us),
        "be_share_beside_others": be_us / (whole_us - lc_us - others_us),
        "others": others_us / whole_us,
    } | (looks.figures() if looks else {})


class _Looks:
    """What the agent's looks cost, and what it did at each."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.quotas: list[float] = []
        self.pressures: list[float] = []

    def look(self, node: KernelNode) -> float:
        """One; seconds until the next."""
        before_s = time.thread_time()
        node.step()
        next_s = node.agent.next_look_s
        self.cpu_s += time.thread_time() - before_s
        self.quotas.append(node.agent.restraint.cpu_share)
        self.pressures.append(node.agent.lc_cpu_pressure or 0.0)
        return next_s

    def figures(self) -> dict[str, float]:
        """Figures of all rounds."""
        count = len(self.quotas)
        return {
            "looks": count,
            "look_ms": 1000 * self.cpu_s / count,
            "quota": sum(self.quotas) / count,
            "pressure": sorted(self.pressures)[int(0.9 * count)],
        }


def _wait(node: KernelNode, seconds: float, looks: _Looks | None) -> None:
    """Wait so many seconds; where the agent manages pods, let it look meanwhile."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, looks.look(node) if looks else left_s))


def _busy_us() -> int:
    """Microseconds of CPU that anything on this kernel has used, idle and waiting for disks left out. Source: proc(5), /proc/stat."""
    fields = list(map(int, Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]))
    return (sum(fields[:8]) - fields[3] - fields[4]) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def _used_us(pods: list[KernelPod]) -> int:
    return sum(pod.pod.cpu().used_us for pod in pods)
