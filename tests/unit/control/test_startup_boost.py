"""Start-up boost: an instance has more CPU until it is ready, then what its service declares, and nobody touches it again for that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tango.control.startup_boost import StartupBoost
from tango.domain.identity import NodeKey
from tango.domain.services import Service
from tango.errors import ClusterUnavailable, ConfigError
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.kube_objects import node, running
from tests.fakes.store_world import BATCH, WEB

BOOSTED = replace(WEB, startup_cpu_limit_millicores=3000)
POD = "lc-web-n1-0"


@pytest.fixture
async def cluster() -> MemoryCluster:
    """With an instance that has just been made."""
    found = MemoryCluster()
    found.put_node(node("n1"))
    await found.create_instance(BOOSTED, NodeKey("c1", "n1"), 0)
    return found


def limit(cluster: MemoryCluster) -> str:
    """The instance's CPU limit."""
    (pod,) = cluster.pods()
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"])


def becomes(cluster: MemoryCluster, *, ready: bool) -> None:
    """Its readiness from now on."""
    (pod,) = cluster.pods()
    cluster.put_pod({**pod, "status": running(name="work", ready=ready)})


async def test_an_instance_has_the_limit_of_its_start_until_it_is_ready(cluster: MemoryCluster) -> None:
    """And its declared request all the time."""
    boost = StartupBoost("c1", cluster)

    made = limit(cluster)
    becomes(cluster, ready=False)
    starting = await boost.end([BOOSTED], 0.0), limit(cluster)
    becomes(cluster, ready=True)
    served = await boost.end([BOOSTED], 1.0), limit(cluster)

    assert (made, starting, served) == ("3", (True, "3"), (True, "1000m"))
    (pod,) = cluster.pods()
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"


async def test_what_others_make_of_it_later_stays(cluster: MemoryCluster) -> None:
    """Re-assurance may give it the very limit of its start, and it may be not ready and ready again."""
    boost = StartupBoost("c1", cluster)
    becomes(cluster, ready=True)
    await boost.end([BOOSTED], 0.0)

    await cluster.set_cpu_limit(POD, "work", 3000)
    becomes(cluster, ready=False)
    await boost.end([BOOSTED], 1.0)
    becomes(cluster, ready=True)
    await boost.end([BOOSTED], 2.0)

    assert limit(cluster) == "3000m"


async def test_one_that_was_moved_before_it_was_looked_at_is_left_alone(cluster: MemoryCluster) -> None:
    """Re-assurance was faster: it has the limit that it is to have."""
    becomes(cluster, ready=True)
    await cluster.set_cpu_limit(POD, "work", 2000)

    assert await StartupBoost("c1", cluster).end([BOOSTED], 0.0)
    assert limit(cluster) == "2000m"


async def test_a_resize_that_fails_is_tried_again_after_a_pause(cluster: MemoryCluster) -> None:
    """A cluster that is away is not called twice a second."""
    boost = StartupBoost("c1", cluster)
    becomes(cluster, ready=True)
    cluster.error = ClusterUnavailable("away")
    failed = await boost.end([BOOSTED], 0.0)
    cluster.error = None
    too_soon = await boost.end([BOOSTED], 0.1), limit(cluster)
    later = await boost.end([BOOSTED], 5.0), limit(cluster)

    assert (failed, too_soon, later) == (False, (False, "3"), (True, "1000m"))


@pytest.mark.parametrize(
    ("service", "change", "expected"),
    [
        (WEB, {"startup_cpu_limit_millicores": 1000}, "more than cpu_limit_millicores"),
        (WEB, {"startup_cpu_limit_millicores": 2000, "never_resize": True}, "nothing beside never_resize"),
        (BATCH, {"startup_cpu_limit_millicores": 4000}, "BE pods do their work from the start"),
    ],
)
def test_a_boost_that_is_none_or_cannot_be_taken_back_is_refused(service: Service, change: dict[str, Any], expected: str) -> None:
    """With the field, what was found and what was expected."""
    with pytest.raises(ConfigError, match=rf"startup_cpu_limit_millicores is \d+, expected .*{expected}"):
        replace(service, **change)
