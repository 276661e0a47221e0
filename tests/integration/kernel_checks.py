"""What a real kernel accounts under the node agent: the same checks on this host's and, packed with the agent, on one of its own.

They import the standard library and the agent alone. Each makes pods as a kubelet does, runs programs in them, and looks at what the kernel
has accounted (`cpu.stat`, `memory.events`), never at a clock: a machine that is busy makes them slower and changes nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tango.bench.kernel_pods import kernel_node, until
from tango.cgroups.groups import Group, KnobRefused
from tango.cgroups.knobs import Knob
from tango.settings import NodeAgentSettings

SPIN = "while True: pass"
HOLD = "import time\nheld = bytearray({mib} << 20)\nwhile True: time.sleep(1)"
TOUCH = """
import time
held = []
while True:
    held.append(bytearray(1 << 20)) if len(held) < {mib} else held.pop(0)
    time.sleep(0.01)
"""
PERIODS = 12
"""Periods of a quota that a check waits for: a bit more than a second where the program always wants to run."""
LARGE_WEIGHT = 2000
"""Many times that of an LC pod of these checks, in either version's scale."""
DIES_WITHIN_S = 120.0


def used_in_periods(group: Group) -> tuple[int, int]:
    """(CPU in microseconds, periods) from now on, until the quota has been used up in one and `PERIODS` are over."""
    before = group.cpu()
    until(lambda: group.cpu().periods - before.periods >= PERIODS and group.cpu().throttled > before.throttled)
    after = group.cpu()
    return after.used_us - before.used_us, after.periods - before.periods


def most_us(periods: int, quota: int) -> int:
    """What a quota gives in so many periods: on each CPU a slice of 5 ms may be taken ahead, which the next period pays back."""
    return (periods + 1) * quota + (os.cpu_count() or 1) * 5_000


def check_a_resize_is_what_the_kernel_accounts(root: Path) -> str:
    """Down to a tenth of a core and up to a fifth: used is what the quota gives in the periods that the kernel counted."""
    with kernel_node(root) as one:
        pod = one.pod("lc", cpu=500, memory_mib=64)
        for _ in range(os.cpu_count() or 1):
            pod.start(SPIN)
        told = []
        for cpu in (100, 200):
            pod.ask(cpu=cpu)
            settings = one.agent.see(pod.body)
            assert [(s.wanted, s.effective, s.refused) for s in settings if s.knob is Knob.CPU_QUOTA] == [
                (cpu * 100, cpu * 100, "")
            ] * 2
            pod.actuated()
            used_us, periods = used_in_periods(pod.container)
            assert used_us <= most_us(periods, cpu * 100), f"{used_us} us in {periods} periods of {cpu} millicores"
            told.append(f"{cpu} m: {used_us * 1000 // (periods * 100_000)} m in {periods} periods")
        return "; ".join(told)


def check_the_order_is_one_that_the_kernel_takes(root: Path) -> str:
    """Sizes up and down with a burst: nothing is refused, and the burst is as large as the quota lets it be."""
    with kernel_node(root) as one:
        pod = one.pod("lc", cpu=500, memory_mib=64)
        bursts = []
        has_burst = pod.container.has(Knob.CPU_BURST)
        if has_burst:
            pod.container.write(Knob.CPU_BURST, 30_000)
        for cpu in (100, 700, 50, 500):
            pod.ask(cpu=cpu)
            settings = one.agent.see(pod.body)
            assert settings
            assert not [s for s in settings if s.refused], [s.refused for s in settings]
            assert [group.read(Knob.CPU_QUOTA) for group in (pod.pod, pod.container)] == [cpu * 100] * 2
            if has_burst:
                bursts.append(pod.container.read(Knob.CPU_BURST))
        assert not has_burst or bursts == [10_000, 30_000, 5_000, 30_000]
        return f"bursts {bursts}"


def check_what_the_kernel_refuses(root: Path) -> str:
    """The rules that the order is for: a quota below the burst, a weight for an idle group; in version 1 a child above its parent."""
    refused = []
    with kernel_node(root) as one:
        pod = one.pod("be", cpu=500, memory_mib=64)
        pod.container.write(Knob.CPU_BURST, 30_000)
        tried = [(pod.container, Knob.CPU_QUOTA, 20_000)]
        if one.hierarchy.version == 1:
            tried += [(pod.container, Knob.CPU_QUOTA, 60_000), (pod.pod, Knob.CPU_QUOTA, 40_000)]
        pod.pod.write(Knob.CPU_IDLE, 1)
        tried.append((pod.pod, Knob.CPU_WEIGHT, 50))
        for group, knob, value in tried:
            try:
                group.write(knob, value)
            except KnobRefused as error:
                refused.append(str(error).rpartition(": ")[2])
        assert refused == ["Invalid argument"] * len(tried)
        if one.hierarchy.version == 2:
            pod.container.write(Knob.CPU_QUOTA, 60_000)
            assert pod.container.effective(Knob.CPU_QUOTA) == 50_000
    return f"{len(refused)} refusals"


def check_idle_be_leaves_the_cpu_to_lc(root: Path) -> str:
    """With as many programs on either side as there are CPUs BE gets what LC leaves while its programs change places, where by weight it
    would get most; a stop gives its weight back."""
    cpus = os.cpu_count() or 1
    with kernel_node(root) as one:
        lc, be = (one.pod(kind, cpu=cpus * 1000, memory_mib=64) for kind in ("lc", "be"))
        be.pod.write(Knob.CPU_WEIGHT, LARGE_WEIGHT)
        for pod in (lc, be):
            for _ in range(cpus):
                pod.start(SPIN)
        one.step()
        assert be.pod.read(Knob.CPU_IDLE) == 1
        before = lc.pod.cpu().used_us, be.pod.cpu().used_us
        until(lambda: lc.pod.cpu().used_us - before[0] > 1_000_000)
        lc_us, be_us = lc.pod.cpu().used_us - before[0], be.pod.cpu().used_us - before[1]
        assert be_us < lc_us / 2, f"BE {be_us} us beside {lc_us} us of LC"
        one.started()  # as after kill -9: the file knows what was found
        one.agent.restore()
        assert (be.pod.read(Knob.CPU_IDLE), be.pod.read(Knob.CPU_WEIGHT)) == (0, LARGE_WEIGHT)
        return f"BE {100 * be_us / lc_us:.1f} % of LC"


def check_growing_lc_is_a_quota_of_be(root: Path) -> str:
    """What BE then uses is what it was given, in the kernel's own periods."""
    with kernel_node(root) as one:
        cpus = os.cpu_count() or 1
        lc, be = one.pod("lc", cpu=1000, memory_mib=64), one.pod("be", cpu=cpus * 1000, memory_mib=64)
        for _ in range(cpus):
            be.start(SPIN)
        for look in range(10):
            lc.ask(request=200 + 50 * look)
            one.agent.see(lc.body)
            one.step()
        quota = be.pod.read(Knob.CPU_QUOTA)
        assert quota == cpus * 100_000 * NodeAgentSettings().cpu_floor
        used_us, periods = used_in_periods(be.pod)
        assert used_us <= most_us(periods, quota)
        one.agent.restore()
        assert be.pod.read(Knob.CPU_QUOTA) == cpus * 100_000
        return f"{used_us * 1000 // (periods * 100_000)} m of {quota * 1000 // 100_000} m"


def check_memory_limits_and_marks(root: Path) -> str:
    """A limit that is raised holds at once; one below what is in use is not set, but reclaimed towards; beyond the limit a program dies."""
    with kernel_node(root) as one:
        pod = one.pod("lc", cpu=1000, memory_mib=64)
        program = pod.start(HOLD.format(mib=40))
        until(lambda: pod.container.memory_bytes() > 40 << 20)
        pod.ask(memory_mib=128)
        one.agent.see(pod.body)
        assert [group.read(Knob.MEMORY_MAX) for group in (pod.pod, pod.container)] == [128 << 20] * 2
        pod.actuated()
        one.agent.see(pod.body)
        pod.ask(memory_mib=24)
        one.agent.see(pod.body)
        assert (pod.container.read(Knob.MEMORY_MAX), pod.container.read(Knob.MEMORY_HIGH)) == (128 << 20, 24 << 20)
        assert program.poll() is None
        program.kill()
        program.wait()
        until(lambda: pod.container.memory_bytes() < 20 << 20)
        one.agent.see(pod.body)
        assert pod.container.read(Knob.MEMORY_MAX) == 24 << 20
        greedy = pod.start(HOLD.format(mib=60))
        assert greedy.wait(timeout=DIES_WITHIN_S) == -9
        assert pod.container.memory_events()["oom_kill"] >= 1
        return f"oom_kill {pod.container.memory_events()['oom_kill']}"


def check_marks_slow_be_before_anything_is_killed(root: Path) -> str:
    """Version 2: above the mark BE's pages are reclaimed and its programs slowed (`high`), none is killed."""
    with kernel_node(root) as one:
        if one.hierarchy.version == 1:
            return "version 1 has no such mark"
        be = one.pod("be", cpu=1000, memory_mib=128)
        be.pod.write(Knob.MEMORY_HIGH, 24 << 20)
        be.start(TOUCH.format(mib=40))
        until(lambda: be.pod.memory_events()["high"] > 0)
        events = be.pod.memory_events()
        assert events["oom_kill"] == 0
        return f"high {events['high']}"


def check_pressure_is_seen(root: Path) -> str:
    """Version 2: beside BE of equal weight an LC pod is crowded, and the agent sees by how much; idle BE ends it."""
    with kernel_node(root) as one:
        if one.hierarchy.version == 1:
            return "version 1 has no pressure of groups"
        lc, be = one.pod("lc", cpu=2000, memory_mib=64), one.pod("be", cpu=2000, memory_mib=64)
        for pod in (lc, be):
            for _ in range(os.cpu_count() or 1):
                pod.start(SPIN)
        before = lc.pod.pressure("cpu")
        assert before is not None
        used = lc.pod.cpu().used_us
        until(lambda: lc.pod.cpu().used_us - used > 1_000_000)
        crowded = lc.pod.pressure("cpu")
        assert crowded is not None
        assert crowded.full_us > before.full_us
        return f"{(crowded.full_us - before.full_us) // 1000} ms"


CHECKS = {name: value for name, value in globals().items() if name.startswith("check_")}


def run(arguments: dict[str, Any]) -> dict[str, str]:
    """Each check on the kernel that this runs on, with what it saw. Raises: AssertionError."""
    return {name: CHECKS[name](Path(arguments["root"])) for name in arguments.get("checks") or CHECKS}
