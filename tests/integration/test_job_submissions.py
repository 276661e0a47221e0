"""Jobs that many submit at once, on PostgreSQL: a key is one job, numbers are given once, and ends beside withdrawals end once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tango.domain.jobs import JobEnd, NewJob
from tango.domain.lifecycle import Event, Outcome
from tango.domain.requests import Reason
from tango.settings import LeaseSettings
from tango.store.database import Database
from tango.store.jobs import PostgresJobStore
from tests.contract.test_jobs import MOST_MIB, WITH_TEMPLATE
from tests.fakes.store_world import postgres_world

THREADS = 8


def test_a_key_that_many_submit_at_once_is_one_job(database_url: str) -> None:
    """Each of eight connections gets the same id, and one of them made it; others under keys of their own get numbers of their own."""
    postgres_world(database_url, WITH_TEMPLATE)
    stores = [PostgresJobStore(Database(database_url), LeaseSettings()) for _ in range(THREADS)]

    with ThreadPoolExecutor(THREADS) as pool:
        same = list(pool.map(lambda store: store.submit(NewJob(service="transcode", key="k")), stores))
        many = list(pool.map(lambda k: stores[k % THREADS].submit(NewJob(service="transcode", key=f"k{k}")).key, range(64)))

    assert len({submitted.key for submitted in same}) == 1
    assert sum(submitted.is_new for submitted in same) == 1
    assert len(set(many)) == 64
    assert len(stores[0].jobs(limit=100)) == 65


def test_an_end_beside_a_withdrawal_is_one_or_the_other(database_url: str) -> None:
    """However they meet: every job has one end, one attempt, and the exit code that its pod told."""
    world = postgres_world(database_url, WITH_TEMPLATE)
    keys = [world.jobs.submit(NewJob(service="transcode", key=str(k))).key for k in range(32)]
    world.requests.admit_be(keys[0].run_id, [key.request_id for key in keys], most_memory_mib=MOST_MIB)
    world.place(world.requests.pending_be(limit=32), world.fence())
    outcomes = [Outcome(run_id=k.run_id, request_id=k.request_id, epoch=1, event=Event.FAIL, reason=Reason.EXIT_CODE) for k in keys]
    ends = [JobEnd(outcome=outcome, is_own_fault=True, exit_code=3) for outcome in outcomes]

    with ThreadPoolExecutor(THREADS) as pool:
        withdrawn = pool.map(world.jobs.withdraw, keys)
        ended = pool.map(lambda end: world.jobs.end([end]), reversed(ends))
        both = list(withdrawn), list(ended)[::-1]

    jobs = [world.jobs.job(key) for key in keys]
    assert [w + e for w, e in zip(*both, strict=True)] == [1] * 32
    assert [str(job.state) for job in jobs] == ["cancelled" if w else "failed" for w in both[0]]
    assert {job.exit_code for job in jobs} == {3}
    assert len(world.attempts(keys[0].run_id)) == 32
