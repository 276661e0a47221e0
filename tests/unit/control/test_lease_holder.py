"""A process as a holder of leases: what it takes, and what it finds held."""

from __future__ import annotations

import pytest

from tango.control.lease_holder import LeaseHolder
from tango.settings import LeaseSettings
from tests.fakes.control_world import ControlWorld


def holder(world: ControlWorld, owner: str = "a") -> LeaseHolder:
    """A process."""
    return LeaseHolder(leases=world.leases, owner=owner, settings=LeaseSettings())


def test_a_job_has_one_holder_at_a_time_and_another_after_its_lease(world: ControlWorld) -> None:
    """The same process renews under the same epoch; the next holder gets a higher one."""
    first = holder(world).acquire("sweep", ttl_s=5.0)
    again = holder(world).acquire("sweep", ttl_s=5.0)
    other = holder(world, "b").acquire("sweep", ttl_s=5.0)
    world.clock.turn(6.0)
    later = holder(world, "b").acquire("sweep", ttl_s=5.0)

    assert first is not None
    assert again == first
    assert other is None
    assert later is not None
    assert (later.owner, later.epoch) == ("b", first.epoch + 1)


@pytest.mark.parametrize("asker", ["a", "b"])
def test_a_lease_is_free_only_while_nobody_holds_it_not_even_the_asker(world: ControlWorld, asker: str) -> None:
    """An acquisition under the asker's own name would renew what it holds and look like a free one. A free lease stays free."""
    assert holder(world, asker).nobody_holds("replay:1")
    assert holder(world, asker).nobody_holds("replay:1")

    fence = holder(world, "a").acquire("replay:1", ttl_s=5.0)

    assert not holder(world, asker).nobody_holds("replay:1")
    assert fence is not None
    assert holder(world, "a").acquire("replay:1", ttl_s=5.0) == fence


def test_threads_of_one_process_do_a_job_one_at_a_time(world: ControlWorld) -> None:
    """To the store both are one owner, who may renew; whoever comes second does nothing, and nobody waits."""
    process = holder(world)

    with (
        process.at_work("sweep", ttl_s=5.0) as first,
        process.at_work("sweep", ttl_s=5.0) as second,
        process.at_work("placement", ttl_s=5.0) as other_job,
    ):
        assert first is not None
        assert second is None
        assert other_job is not None
    with process.at_work("sweep", ttl_s=5.0) as later:
        assert later == first


def test_a_job_that_failed_may_be_begun_again(world: ControlWorld) -> None:
    """Its turn ends however the block ends."""
    process = holder(world)

    with pytest.raises(RuntimeError), process.at_work("sweep", ttl_s=5.0):
        raise RuntimeError("a defect")
    with process.at_work("sweep", ttl_s=5.0) as fence:
        assert fence is not None
