"""Outlier detection: a node that does not answer is out at once, is probed, and comes back little by little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.control.node_health import LEAST_SHARE, Call, NodeHealth
from tango.domain.identity import NodeKey
from tango.settings import OutlierSettings
from tests.fakes.own_fleet import published

SETTINGS = OutlierSettings(
    failures_in_row=3,
    hang_min_s=1.0,
    hang_targets=3.0,
    hang_answers=10.0,
    look_every_s=0.1,
    paused_after_looks=3.0,
    most_out_share=1.0,
    probe_every_s=0.5,
    longest_probe_pause_s=4.0,
    probes_well=2,
    ramp_s=10.0,
)
N1, N2, FAR = NodeKey("c1", "c1-n1"), NodeKey("c1", "c1-n2"), NodeKey("c2", "c2-n1")
TARGET_S = 0.1


class Time:
    """Monotonic seconds, turned by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@pytest.fixture
def time() -> Time:
    """At 100 s."""
    return Time()


@pytest.fixture
def health(time: Time) -> NodeHealth:
    """Nothing is known."""
    return NodeHealth(SETTINGS, monotonic=time)


def call(k: int) -> Call:
    """The call of the k-th request."""
    return 1, k, 1


def looks(health: NodeHealth, time: Time, seconds: float) -> list[Call]:
    """Look at what hangs as often as the executor does, for so long; gives what was taken back."""
    found = health.overdue()
    until_s = time.now_s + seconds
    while time.now_s < until_s - 1e-9:
        time.now_s += min(SETTINGS.look_every_s, until_s - time.now_s)
        found += health.overdue()
    return found


def put_out(health: NodeHealth, node: NodeKey = N1) -> None:
    """By failures."""
    for k in range(SETTINGS.failures_in_row):
        health.begun(node, call(k), target_s=TARGET_S)
        health.failed(node, call(k))


# ---- out ---------------------------------------------------------------------------------------------------------------


def test_a_node_is_out_after_failures_in_a_row(health: NodeHealth) -> None:
    """An answer between them, whatever it was, begins the count anew; another node is not touched."""
    for k, answers in enumerate([False, False, True, False, False]):
        health.begun(N1, call(k), target_s=TARGET_S)
        (health.answered if answers else health.failed)(N1, call(k))
    before = health.share(N1)
    health.begun(N1, call(9), target_s=TARGET_S)
    health.failed(N1, call(9))

    assert (before, health.share(N1), health.share(N2)) == (1.0, 0.0, 1.0)


def test_a_node_on_which_calls_hang_is_out_and_they_are_taken_back(health: NodeHealth, time: Time) -> None:
    """Once the oldest has waited so long with nothing answered: all of them, and each once."""
    health.begun(N1, call(1), target_s=TARGET_S)
    early = looks(health, time, 0.9)
    health.begun(N1, call(2), target_s=TARGET_S)

    late = looks(health, time, 0.2)

    assert early == []
    assert sorted(late) == [call(1), call(2)]
    assert looks(health, time, 2.0) == []
    assert health.share(N1) == 0.0


def test_a_slow_node_that_answers_is_not_out(health: NodeHealth, time: Time) -> None:
    """Liveness is progress: a queue makes calls wait long, and others are answered meanwhile."""
    health.begun(N1, call(0), target_s=TARGET_S)
    for k in range(1, 20):
        health.begun(N1, call(k), target_s=TARGET_S)
        assert looks(health, time, 0.9) == []
        health.answered(N1, call(k))

    assert health.share(N1) == 1.0


def test_calls_of_long_targets_have_longer(health: NodeHealth, time: Time) -> None:
    """Three targets, where that is more than a second."""
    health.begun(N1, call(1), target_s=2.0)

    assert (looks(health, time, 5.9), looks(health, time, 0.2)) == ([], [call(1)])


def test_where_all_answers_take_long_silence_may_too(health: NodeHealth, time: Time) -> None:
    """Ten times what answers of all nodes take at present: of a host that is overloaded no node is taken for one that hangs."""
    for k in range(200):
        health.begun(FAR, call(k), target_s=TARGET_S)
        time.now_s += 0.4
        health.answered(FAR, call(k))
    health.begun(N1, call(999), target_s=TARGET_S)

    assert (looks(health, time, 3.9), looks(health, time, 0.2)) == ([], [call(999)])


def test_who_waits_long_lets_a_call_take_longer(health: NodeHealth, time: Time) -> None:
    """Half of his patience, where that is more; it does not hide one behind it that hangs."""
    health.begun(N1, call(1), target_s=TARGET_S, patience_s=20.0)
    patient = looks(health, time, 9.9)
    health.begun(N1, call(2), target_s=TARGET_S, patience_s=0.2)
    health.answered(N1, call(0))

    assert patient == []
    assert looks(health, time, 0.9) == []
    assert sorted(looks(health, time, 0.2)) == [call(1), call(2)]


def test_a_call_that_is_being_answered_does_not_hang(health: NodeHealth, time: Time) -> None:
    """However long the rest of its answer takes."""
    health.begun(N1, call(1), target_s=TARGET_S)
    health.answered(N1, call(1))

    assert looks(health, time, 60.0) == []
    health.answered(N1, call(1))
    assert (health.share(N1), health.is_quiet()) == (1.0, True)


def test_one_who_hangs_up_leaves_no_call_behind_that_hangs(health: NodeHealth, time: Time) -> None:
    """The node was silent for as long as he waited, and no longer."""
    health.begun(N1, call(1), target_s=TARGET_S)
    looks(health, time, 0.3)
    health.given_up(N1, call(1))

    assert health.is_quiet()
    assert looks(health, time, 60.0) == []
    assert health.share(N1) == 1.0


def test_a_node_that_answers_none_of_those_who_hang_up_is_out(health: NodeHealth, time: Time) -> None:
    """Impatient callers, one after the other, of whom none waits for as long as a node may be silent."""
    for k in range(3):
        health.begun(N1, call(k), target_s=TARGET_S)
        assert looks(health, time, 0.3) == []
        health.given_up(N1, call(k))
        time.now_s += 0.2  # nothing is asked of it
    health.begun(N1, call(9), target_s=TARGET_S)

    assert looks(health, time, 0.2) == [call(9)]
    assert health.share(N1) == 0.0


def test_time_in_which_this_process_stood_still_is_no_silence(health: NodeHealth, time: Time) -> None:
    """Answers may lie unread. From then on a node has all of its time once more."""
    health.begun(N1, call(1), target_s=TARGET_S)
    before = looks(health, time, 0.9)
    time.now_s += 7.0

    assert (before, looks(health, time, 0.9), looks(health, time, 0.2)) == ([], [], [call(1)])


@pytest.mark.parametrize(("share", "out"), [(0.5, [N1]), (0.67, [N1, N2]), (0.0, [N1])])
def test_no_more_nodes_are_out_at_once_than_a_share_of_them(time: Time, share: float, out: list[NodeKey]) -> None:
    """And always one: the longest silent first, and what hangs on the others waits out its time."""
    health = NodeHealth(replace(SETTINGS, most_out_share=share), monotonic=time)
    for k, node in enumerate((N1, N2, FAR)):
        health.begun(node, call(k), target_s=TARGET_S)
        looks(health, time, 0.1)

    taken_back = looks(health, time, 2.0)

    assert [node for node in (N1, N2, FAR) if health.share(node) == 0.0] == out
    assert len(taken_back) == len(out)


def test_nodes_that_are_not_called_count_among_those_that_may_be_out(time: Time) -> None:
    """A worker calls the nodes of its own cluster first, and these hang together."""
    health = NodeHealth(replace(SETTINGS, most_out_share=0.67), monotonic=time)
    health.masked(published().snapshot)
    for node in (N1, N2):
        put_out(health, node)

    assert (health.share(N1), health.share(N2)) == (0.0, 0.0)


# ---- probed and let in -------------------------------------------------------------------------------------------------


def test_a_node_that_is_out_is_probed_and_let_in_by_good_probes_in_a_row(health: NodeHealth, time: Time) -> None:
    """A bad one between them begins the count anew; while a probe is under way no second one is asked for."""
    put_out(health)
    at_once = health.to_probe()
    asked, again = [], []
    for well in (True, False, True, True):
        time.now_s += SETTINGS.longest_probe_pause_s
        asked.append(health.to_probe())
        again.append(health.to_probe())
        assert health.share(N1) == 0.0
        health.probed(N1, well=well)

    assert at_once == []
    assert asked == [[N1]] * 4
    assert again == [[]] * 4
    assert health.share(N1) > 0.0


def test_probes_that_are_not_answered_come_more_rarely(health: NodeHealth, time: Time) -> None:
    """Up to the longest pause, less a random part, so that workers do not probe together."""
    put_out(health)
    pauses_s = []
    time.now_s += SETTINGS.probe_every_s
    for _ in range(6):
        assert health.to_probe() == [N1]
        health.probed(N1, well=False)
        began_s = time.now_s
        while not (due := health.to_probe()):
            time.now_s += 0.01
        pauses_s.append(time.now_s - began_s)
        assert due == [N1]
        health.probed(N1, well=False)
        time.now_s += SETTINGS.longest_probe_pause_s

    assert pauses_s[0] <= 1.01
    assert pauses_s[-1] == pytest.approx(3.5, abs=0.55)


def test_a_node_comes_back_little_by_little(health: NodeHealth, time: Time) -> None:
    """From a tenth of the dispatches to all of them."""
    put_out(health)
    for _ in range(SETTINGS.probes_well):
        time.now_s += 1.0
        health.to_probe()
        health.probed(N1, well=True)

    shares = [health.share(N1)]
    for _ in range(3):
        time.now_s += 4.0
        shares.append(health.share(N1))

    assert shares == pytest.approx([LEAST_SHARE, 0.4, 0.8, 1.0])


# ---- dispatch ----------------------------------------------------------------------------------------------------------


def test_dispatch_sees_no_instance_on_a_node_that_is_out(health: NodeHealth) -> None:
    """Counts in flight stay those of the view, so that what is planned now is counted there."""
    snapshot = published().snapshot
    put_out(health, N1)

    masked = health.masked(snapshot)

    assert masked.instance_count[:, 0].sum() == 0
    assert masked.instance_limit[:, 0].sum() == 0
    assert np.array_equal(masked.instance_count[:, 1:], snapshot.instance_count[:, 1:])
    assert masked.in_flight is snapshot.in_flight
    assert snapshot.instance_count[:, 0].sum() > 0


def test_with_nothing_wrong_a_snapshot_is_given_as_it_is(health: NodeHealth) -> None:
    """It is asked for each batch."""
    snapshot = published().snapshot
    health.begun(N1, call(1), target_s=TARGET_S)
    health.answered(N1, call(1))

    assert health.masked(snapshot) is snapshot


def test_a_service_keeps_its_instances_where_all_its_nodes_are_out(health: NodeHealth) -> None:
    """A call that may hang is better than none."""
    snapshot = published().snapshot
    for node in (N1, N2, FAR):
        put_out(health, node)

    assert np.array_equal(health.masked(snapshot).instance_count, snapshot.instance_count)


def test_a_node_that_comes_back_is_used_by_its_share_of_the_dispatches(health: NodeHealth, time: Time) -> None:
    """By chance, so that several workers do not all use it at once."""
    snapshot = published().snapshot
    put_out(health)
    for _ in range(SETTINGS.probes_well):
        time.now_s += 1.0
        health.to_probe()
        health.probed(N1, well=True)
    time.now_s += 5.0

    used = np.mean([health.masked(snapshot).instance_count[:, 0].sum() > 0 for _ in range(400)])

    assert used == pytest.approx(0.5, abs=0.15)
