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
