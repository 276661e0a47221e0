"""What the clusters of a process follow is read once for all of them, and anew at every round."""

from __future__ import annotations

from tango.control.following import READ_AGAIN_S, Following
from tests.fakes.control_world import control_world
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH, WEB


class Seconds:
    """A monotonic clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


def test_clusters_that_look_one_after_the_other_share_a_reading() -> None:
    """A round over all of them asks the centre once, the next round once more; each gets its own shares."""
    centre, seconds = control_world(), Seconds()
    run_id = centre.create(WEB, WEB)
    shares = Faulty(centre.shares)
    following = Following(shares, ["c1", "c2", "c3"], monotonic=seconds)  # type: ignore[arg-type]

    first = {cluster: [run.run_id for run, _ in following.of(cluster)] for cluster in ("c1", "c2", "c3")}
    seconds.now_s += READ_AGAIN_S / 2
    following.of("c1")
    read = len(shares.calls_of("followed"))
    seconds.now_s += READ_AGAIN_S
    following.of("c1")

    assert first == {"c1": [run_id], "c2": [run_id], "c3": []}
    assert (read, len(shares.calls_of("followed"))) == (1, 2)


def test_whoever_has_changed_something_has_it_read_anew() -> None:
    """Within the time that a reading serves, too."""
    centre, seconds = control_world(), Seconds()
    following = Following(centre.shares, ["c1"], monotonic=seconds)
    before = following.of("c1")
    run_id = centre.create(WEB)

    following.read_anew()

    assert (before, [run.run_id for run, _ in following.of("c1")]) == ([], [run_id])


def test_a_process_takes_a_run_for_open_until_it_knows_better() -> None:
    """Before the centre was asked; and while there is one, whoever has a share of it."""
    centre, seconds = control_world(), Seconds()
    following = Following(centre.shares, ["c1"], monotonic=seconds)

    found = [following.is_open()]
    following.of("c1")
    found.append(following.is_open())
    centre.create(BATCH)
    seconds.now_s += 1.0
    following.of("c1")
    found.append(following.is_open())

    assert found == [True, False, True]
