"""The simulated world."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSettings:
    """The simulated world. What belongs to a fleet (beta, staleness, actuation) is taken from it unless given here."""

    lc_window_s: float = 0.1
    """Simulated seconds; LC requests are dispatched at the end of the window in which they arrive, as live ones that share a
    message are. A shorter one costs more dispatch steps per second."""
    be_tick_s: float = 1.0
    """Simulated seconds between placements of BE; a whole number of windows. Longer than live (0.2 s), because a tick returns from
    compiled code to Python; BE work of seconds hardly notices."""
    staleness_s: float | None = None
    """Simulated seconds between the states that clusters tell each other; None: the fleet's."""
    beta: float | None = None
    """Strength of the interference between LC and BE on a node, without a unit; None: the fleet's."""
    be_waits_for_lc: bool = False
    """Whether BE is kept from clusters whose LC is late, by `BeSettings.lc_late_share` and `lc_first_s` as live. False: sharing rules are
    compared with each other in how far they keep BE from LC, and this would do part of it for all of them."""
    be_batch_limit: int = 5000
    """Pending BE requests that one tick considers, oldest first. Far above what a tick places, so that it bounds the time of a
    decision under overload and nothing else."""
    pod_start_s: float = 0.2
    """Seconds from the placement of a BE pod to its start: create, bind, watch, start. `tango simulate --run` takes what the live
    run measured instead."""
    lost_after_s: float = 10.0
    """Seconds after which a node that is gone is noticed: as live, where the lease of what ran there ends
    (`LeaseSettings.execution_s`)."""
    settle_s: float = 0.0
    """Seconds from the end of an LC request's service until dispatchers no longer count it as in flight. 0: they know at once. Live a
    worker settles what has ended together (`LcSettings.settle_every_s`), so that dispatchers take some instances for busy that are idle;
    `tango simulate --run` counts that in."""
    give_way_s: float = 0.0
    """Seconds from the decision that a BE pod leaves its room to another tenant until it is gone. As live of the requests of traces, whose
    pods have no grace; a pod of a template of the user's may have one."""
    mtbf_s: float = 0.0
    """Mean seconds of a node between failures (exponential). 0: none fails, so that a comparison is about scheduling unless it
    asks for failures."""
    mttr_s: float = 60.0
    """Mean seconds until a failed node is back (exponential): about the restart of a small machine."""
    charge_decisions: bool = True
    """Decisions take the time that the table of `tango bench scheduler --record` gives, so that a policy pays for being slow.
    False makes all of them free."""
    sample_every_s: float = 1.0
    """Simulated seconds between node samples, as often as live agents write them; fewer on long runs over many nodes, so that they
    stay below a million rows."""
    stuck_after_s: float = 60.0
    """Simulated seconds. After the last arrival, when nothing has moved for this long and nothing will, the run ends as a
    deadlock; longer than any wait that ends by itself."""
    audit: bool = False
    """Look at every node after every event for CPU or memory in excess. Many times slower, so that only tests turn it on."""

    def __post_init__(self) -> None:
        within(self, 1e-4, 3600.0, "lc_window_s", "be_tick_s", "sample_every_s")
        within(
            self, 0.0, LONGEST_S, "staleness_s", "pod_start_s", "lost_after_s", "settle_s", "give_way_s", "mtbf_s", "stuck_after_s"
        )
        within(self, 0.0, LONGEST_S, "mttr_s", above=True)
        within(self, 0.0, 100.0, "beta")
        within(self, 1, 10_000_000, "be_batch_limit")
