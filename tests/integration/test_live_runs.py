"""Runs that callers feed, on PostgreSQL: one a day or by name, numbers that nobody has twice, and their end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from tango.domain.observations import NodeState
from tango.domain.runs import LiveUse, RunInfo, RunKind, RunStatus
from tango.errors import RequestRejected, UsageError
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.live_runs import NUMBERS_IN_BLOCK, PostgresLiveRuns, open_run, take_numbers
from tango.store.runs import PostgresRunStore
from tango.store.shares import PostgresShareStore
from tests.fakes.store_world import TWINS


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """With a fleet of two clusters in force."""
    found = Database(database_url)
    PostgresFleetStore(found).declare(TWINS, kubeconfig="/none", contexts={c.name: c.name for c in TWINS.clusters})
    yield found
    found.close()


@pytest.fixture
def runs(database: Database) -> PostgresRunStore:
    """All runs."""
    return PostgresRunStore(database)


@pytest.fixture
def live(database: Database, runs: PostgresRunStore) -> PostgresLiveRuns:
    """The live ones."""
    return PostgresLiveRuns(database, delete=runs.delete)


def _a_day_later(database: Database) -> None:
    """As if what is open had been opened yesterday."""
    database.execute("""UPDATE run SET settings = '{"day": "2001-01-01"}', name = 'live 2001-01-01' WHERE closed_at IS NULL""")


def test_without_a_fleet_nothing_is_opened(database_url: str) -> None:
    """The message says what to do."""
    database = Database(database_url)
    live = PostgresLiveRuns(database, delete=lambda _: None)

    with pytest.raises(UsageError, match="no fleet is declared yet"):
        live.want()
    assert live.turn() is None
    database.close()


def test_clusters_that_joined_are_a_fleet_by_themselves(database_url: str) -> None:
    """A centre on which nobody has started clusters of its own serves callers all the same."""
    database = Database(database_url)
    fleet = PostgresFleetStore(database)
    fleet.join("edge", kubeconfig="/edge", context="far", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    live = PostgresLiveRuns(database, delete=lambda _: None)

    live.want()
    opened = live.turn()
    with pytest.raises(UsageError, match="no agent of a joined cluster has told of its nodes yet"):
        fleet.in_force()
    fleet.observe(
        "edge", [NodeState(name="n1", ready=True, cpu_allocatable_millicores=4000, memory_allocatable_mib=8192)], [], sample=False
    )

    assert opened is not None
    assert opened.fleet == "joined"
    assert [(c.name, [n.name for n in c.nodes]) for c in fleet.in_force().clusters] == [("edge", ["n1"])]
    database.close()


def test_one_run_is_open_for_a_day(live: PostgresLiveRuns, database: Database, runs: PostgresRunStore) -> None:
    """It is running from the beginning, has a share for each cluster, and gives way to the next one when its day is over."""
    first = live.want()
    again = [live.want(), live.turn(), live.turn()]
    shares = PostgresShareStore(database).shares(first.run_id)
    _a_day_later(database)
    second = live.turn()

    assert (first.kind, first.status, first.system, first.started_at_s is not None) == (
        RunKind.LIVE,
        RunStatus.RUNNING,
        "tango",
        True,
    )
    assert again == [first] * 3
    assert [(share.cluster, share.accepted, share.complete) for share in shares] == [("c1", 0, False), ("c2", 0, False)]
    assert second is not None
    assert second.run_id > first.run_id
    assert runs.run(first.run_id).status is RunStatus.DRAINING


def test_whoever_turns_at_once_opens_one_run(live: PostgresLiveRuns, runs: PostgresRunStore) -> None:
    """Agents of many clusters hear of their first callers at the same instant."""
    found: list[RunInfo] = []
    threads = [threading.Thread(target=lambda: found.append(live.want())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len({run.run_id for run in found}) == 1
    assert len(runs.runs()) == 1


def test_a_cluster_that_joins_takes_part_in_the_open_run(live: PostgresLiveRuns, database: Database) -> None:
    """And one that leaves does not keep it from ending."""
    run, fleet = live.want(), PostgresFleetStore(database)
    fleet.join("edge", kubeconfig="/other", context="edge", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    shares = PostgresShareStore(database)
    joined = [share.cluster for share in shares.shares(run.run_id)]
    fleet.leave("edge")

    assert joined == ["c1", "c2", "edge"]
    assert [share.complete for share in shares.shares(run.run_id)] == [False, False, True]


# ---- numbers -----------------------------------------------------------------------------------------------------------


def _taken(database: Database, run_id: int, count: int) -> Callable[[], range]:
    return lambda: database.run(lambda cursor: take_numbers(cursor, run_id, count))


def test_nobody_gets_a_number_twice(live: PostgresLiveRuns, database: Database) -> None:
    """Blocks of clusters and what the centre takes for itself do not overlap, whoever asks first."""
    run = live.want()
    blocks = [live.numbers(run.run_id, cluster) for cluster in ("c1", "c2", "c1")]
    centre = [_taken(database, run.run_id, count)() for count in (3, NUMBERS_IN_BLOCK - 4, 2)]

    ranges = [range(first, last + 1) for first, last in filter(None, blocks)] + centre
    in_order = sorted(ranges, key=lambda taken: taken.start)
    assert [len(taken) for taken in ranges] == [NUMBERS_IN_BLOCK] * 3 + [3, NUMBERS_IN_BLOCK - 4, 2]
    assert all(one.stop <= other.start for one, other in itertools.pairwise(in_order))


def test_a_closed_run_gives_no_numbers(live: PostgresLiveRuns, database: Database) -> None:
    """Neither to journals nor to the centre, so that nothing is added to it."""
    run = live.want()
    live.set_use(LiveUse(system="scoring"))

    assert live.numbers(run.run_id, "c1") is None
    with pytest.raises(RequestRejected, match=f"run {run.run_id} accepts no more requests"):
        _taken(database, run.run_id, 1)()


def test_what_enters_at_the_centre_opens_the_run_of_its_day(live: PostgresLiveRuns, database: Database) -> None:
    """In its own transaction, and only where there is none."""
    first = database.run(open_run)
    same = database.run(open_run)
    _a_day_later(database)
    other = database.run(open_run)

    assert (same, other.run_id > first.run_id, live.turn()) == (first, True, other)
