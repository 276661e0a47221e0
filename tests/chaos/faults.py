"""What goes wrong in a chaos world: each kind of fault, drawn with its time, its place and its length by the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.gateways import AtCall
from tests.chaos.network import CENTRE
from tests.chaos.timeline import Process
from tests.chaos.world import HEALED_AT_S, World

LEAST, MOST = 5, 12
"""Faults of one world."""
FEW = 4
"""Kinds of faults in a world that has few."""
FIRST_AT_S = 12.0
"""Before it nothing goes wrong, so that something is under way."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one world."""

    at_s: float
    kind: str
    words: str
    strike: Callable[[], None]


def drawn(world: World, dice: random.Random, kinds: Sequence[str] = ()) -> list[Fault]:
    """The faults of a world, in order of time; all of them are over at `HEALED_AT_S`.

    Every second world has only a few kinds, and more often each: what takes two faults of one kind is rare among all of them
    (Groce et al., Swarm Testing, ISSTA 2012).
    """
    found = []
    of = sorted(kinds or KINDS)
    if not kinds and dice.random() < 0.5:
        of = dice.sample(of, FEW)
    for _ in range(dice.randint(LEAST, MOST)):
        at_s = dice.uniform(FIRST_AT_S, HEALED_AT_S - 100.0)
        most_s = HEALED_AT_S - at_s
        kind = dice.choice(of)
        words, strike = KINDS[kind](world, dice, most_s)
        found.append(Fault(at_s, kind, words, strike))
    return sorted(found, key=lambda fault: fault.at_s)


Made = tuple[str, Callable[[], None]]


def _length_s(dice: random.Random, most_s: float) -> float:
    """Mostly some seconds; now and then beyond every lease."""
    return min(most_s, dice.choice((dice.uniform(0.5, 8.0), dice.uniform(8.0, 40.0), dice.uniform(40.0, 90.0))))


def _until(world: World, for_s: float) -> float:
    return world.timeline.now_s + for_s


def _process(world: World, dice: random.Random) -> Process:
    return world.processes[dice.choice(sorted(world.processes))]


def _cluster(world: World, dice: random.Random) -> str:
    return dice.choice([c.name for c in world.fleet.clusters])


def _way(world: World, dice: random.Random) -> tuple[str, str]:
    """Two sites, mostly a cluster and the centre."""
    a = _cluster(world, dice)
    others = [CENTRE, CENTRE, *(c.name for c in world.fleet.clusters if c.name != a)]
    return a, dice.choice(others)


def _crash(world: World, dice: random.Random, most_s: float) -> Made:
    process, steps, after = _process(world, dice), dice.randint(0, 25), dice.random() < 0.5
    down_s = min(most_s, dice.choice((0.5, dice.uniform(1.0, 15.0), dice.uniform(15.0, 60.0))))

    def strike() -> None:
        process.killed_at_step, process.kills_after = steps, after

    world.will_restart(process, down_s)
    return f"{process.name} is killed {'after' if after else 'before'} step {steps}, for {down_s:.1f} s", strike


def _crash_amid_calls(world: World, dice: random.Random, most_s: float) -> Made:
    calls, steps, is_unawaited = dice.randint(1, 6), dice.randint(0, 3), dice.random() < 0.5

    def killed(process: Process) -> None:
        process.killed_at_step, process.kills_after = steps, False

    def strike() -> None:
        world.gateways.kills_at_calls += [AtCall("", is_unawaited, killed) for _ in range(calls)]

    whose = "a call that nobody waits for" if is_unawaited else "a caller's call"
    return f"workers are killed {steps} steps after they have sent {whose}, {calls} times", strike


def _crash_of_machine(world: World, dice: random.Random, most_s: float) -> Made:
    site = dice.choice([CENTRE, *(c.name for c in world.fleet.clusters)])
    down_s = min(most_s, dice.uniform(0.5, 30.0))

    def strike() -> None:
        for process in world.processes.values():
            if process.machine.name == site and process.alive:
                process.kill()
                world.restart(process, down_s + dice.uniform(0.0, 2.0))

    return f"all processes of {site} are killed for {down_s:.1f} s", strike


def _freeze(world: World, dice: random.Random, most_s: float) -> Made:
    process, for_s = _process(world, dice), _length_s(dice, most_s)

    def strike() -> None:
        process.frozen_until_s = _until(world, for_s)

    return f"{process.name} stands still for {for_s:.1f} s", strike


def _cut(world: World, dice: random.Random, most_s: float) -> Made:
    (a, b), for_s = _way(world, dice), _length_s(dice, most_s)

    def strike() -> None:
        world.network.way(a, b).cut_until_s = _until(world, for_s)

    return f"the line from {a} to {b} is cut for {for_s:.1f} s", strike


def _slow(world: World, dice: random.Random, most_s: float) -> Made:
    (a, b), for_s, by_s = _way(world, dice), _length_s(dice, most_s), dice.choice((0.2, 2.0, 8.0))

    def strike() -> None:
        way = world.network.way(a, b)
        way.slow_until_s, way.slow_by_s = _until(world, for_s), by_s

    return f"calls from {a} to {b} take up to {by_s:g} s for {for_s:.1f} s", strike


def _lossy(world: World, dice: random.Random, most_s: float) -> Made:
    (a, b), for_s, share = _way(world, dice), _length_s(dice, most_s), dice.choice((0.1, 0.5))

    def strike() -> None:
        way = world.network.way(a, b)
        way.lossy_until_s, way.loses = _until(world, for_s), share

    return f"answers from {b} to {a} get lost ({share:g}) for {for_s:.1f} s", strike


def _broker(what: str, attribute: str) -> Callable[[World, random.Random, float], Made]:
    def made(world: World, dice: random.Random, most_s: float) -> Made:
        site, for_s = dice.choice(sorted(world.brokers)), _length_s(dice, most_s)

        def strike() -> None:
            setattr(world.brokers[site], attribute, _until(world, for_s))

        return f"the broker of {site} {what} for {for_s:.1f} s", strike

    return made


def _flush(world: World, dice: random.Random, most_s: float) -> Made:
    site = dice.choice(sorted(world.brokers))
    return f"the broker of {site} loses all messages", world.brokers[site].flush


def _store_away(world: World, dice: random.Random, most_s: float) -> Made:
    for_s = _length_s(dice, most_s)

    def strike() -> None:
        world.centre.away_until_s = _until(world, for_s)

    return f"the centre's store is away for {for_s:.1f} s", strike


def _repeats(world: World, dice: random.Random, most_s: float) -> Made:
    for_s = _length_s(dice, most_s)

    def strike() -> None:
        world.centre.repeats_until_s = _until(world, for_s)

    return f"the centre's transactions are run again for {for_s:.1f} s", strike


def _disk_full(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s = _cluster(world, dice), _length_s(dice, most_s)

    def strike() -> None:
        world.journals_away[cluster] = _until(world, for_s)

    return f"the disk of the journal of {cluster} is full for {for_s:.1f} s", strike


def _api_away(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s, compacts = _cluster(world, dice), _length_s(dice, most_s), dice.random() < 0.5

    def strike() -> None:
        world.servers[cluster].down_until_s = _until(world, for_s)
        world.servers[cluster].restart(compacts=compacts)

    return f"the API server of {cluster} is away for {for_s:.1f} s{', its history lost' if compacts else ''}", strike


def _api_busy(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s = _cluster(world, dice), _length_s(dice, most_s)

    def strike() -> None:
        world.servers[cluster].throttles_until_s = _until(world, for_s)

    return f"the API server of {cluster} answers 429 for {for_s:.1f} s", strike


def _stale(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s, lag_s = _cluster(world, dice), _length_s(dice, most_s), dice.uniform(1.0, 25.0)

    def strike() -> None:
        server = world.servers[cluster]
        server.lags_until_s, server.lag_s = _until(world, for_s), lag_s

    return f"watches of {cluster} tell {lag_s:.1f} s late for {for_s:.1f} s", strike


def _clock(world: World, dice: random.Random, most_s: float) -> Made:
    site, by_s = dice.choice([CENTRE, *(c.name for c in world.fleet.clusters)]), dice.choice((-20.0, -5.0, -1.0, 1.0, 5.0, 20.0))
    for_s = min(most_s, dice.uniform(20.0, 120.0))

    def strike() -> None:
        machine = world.machines[site]
        machine.skew_s += by_s
        world.network.seen.add("clock step")

        def back() -> None:
            machine.skew_s -= by_s

        world.timeline.at(world.timeline.now_s + for_s, back)

    return f"the clock of {site} is {by_s:+g} s off for {for_s:.1f} s", strike


def _node_falls(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s = _cluster(world, dice), _length_s(dice, most_s)
    node = dice.choice(world.servers[cluster].cluster.nodes).name

    def strike() -> None:
        if node not in world.kubelets[cluster].down:
            world.network.seen.add("node fell")
            world.kubelets[cluster].fall(node, for_s)

    return f"node {cluster}/{node} falls for {for_s:.1f} s", strike


def _node_hangs(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, for_s = _cluster(world, dice), _length_s(dice, most_s)
    node = dice.choice(world.servers[cluster].cluster.nodes).name

    def strike() -> None:
        if node not in world.kubelets[cluster].hangs:
            world.kubelets[cluster].hang(node, for_s)

    return f"node {cluster}/{node} hangs for {for_s:.1f} s", strike


def _power_lost(world: World, dice: random.Random, most_s: float) -> Made:
    site, down_s = dice.choice([CENTRE, *[c.name for c in world.fleet.clusters] * 2]), min(most_s, dice.uniform(1.0, 30.0))
    if site == CENTRE:
        return f"the power of {site} is lost for {down_s:.1f} s", lambda: world.lose_power(site, down_s)
    world.disks[site].losses += 1
    after_s = dice.uniform(0.0, 0.2) if dice.random() < 0.5 else None
    is_unawaited = dice.random() < 0.7

    def at_a_call(_: Process) -> None:
        world.timeline.at(world.timeline.now_s + (after_s or 0.0), lambda: world.lose_power(site, down_s))

    def strike() -> None:
        if after_s is None:
            world.lose_power(site, down_s)
        else:
            world.gateways.kills_at_calls.append(AtCall(site, is_unawaited, at_a_call))

    words = "" if after_s is None else f", {after_s:.2f} s after the next call of a caller"
    return f"the power of {site} is lost for {down_s:.1f} s{words}", strike


def _journal_lost(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, falls, down_s = _cluster(world, dice), dice.random() < 0.6, min(most_s, dice.uniform(1.0, 30.0))
    words = f"its processes fall for {down_s:.1f} s" if falls else "its processes go on"
    return f"the journal of {cluster} is lost, {words}", lambda: world.lose_journal(cluster, down_s if falls else None)


def _evicted(world: World, dice: random.Random, most_s: float) -> Made:
    cluster, share = _cluster(world, dice), dice.uniform(0.2, 1.0)

    def strike() -> None:
        server = world.servers[cluster]
        for key, stored in list(server.pods.objects.items()):
            if stored.item["metadata"]["labels"].get("tango/class") == "be" and dice.random() < share:
                world.network.seen.add("pod deleted")
                server.answer("DELETE", f"/api/v1/namespaces/tango/pods/{key[1]}", b"", {}, "")

    return f"somebody deletes {share:.0%} of the BE pods of {cluster}", strike


def _cancelled(world: World, dice: random.Random, most_s: float) -> Made:
    return "the run is cancelled", world.cancel


KINDS: dict[str, Callable[[World, random.Random, float], Made]] = {
    "crash": _crash,
    "crash amid calls": _crash_amid_calls,
    "crash of a machine": _crash_of_machine,
    "power lost": _power_lost,
    "journal lost": _journal_lost,
    "pause": _freeze,
    "cut line": _cut,
    "slow line": _slow,
    "lost answers": _lossy,
    "broker away": _broker("is away", "away_until_s"),
    "messages dropped": _broker("drops messages", "drops_until_s"),
    "messages doubled": _broker("doubles messages", "doubles_until_s"),
    "messages reordered": _broker("reorders messages", "shuffles_until_s"),
    "broker flushed": _flush,
    "store away": _store_away,
    "transactions run again": _repeats,
    "journal's disk full": _disk_full,
    "API server away": _api_away,
    "API server busy": _api_busy,
    "stale watch": _stale,
    "clock step": _clock,
    "node falls": _node_falls,
    "node hangs": _node_hangs,
    "pods deleted": _evicted,
}
"""Every kind of fault, drawn with equal probability. Cancelling a run is none; `drawn` adds it to one world in eight."""
