"""Jobs as callers see them: the rows first, the message second."""

from __future__ import annotations

import pytest

from tango.control.jobs import Jobs
from tango.domain.job_json import shown_job
from tango.domain.jobs import NewJob
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.errors import RequestRejected, UsageError
from tests.fakes.control_world import ControlWorld
from tests.fakes.store_world import BATCH


@pytest.fixture
def jobs(world: ControlWorld) -> Jobs:
    """Over it."""
    return Jobs(store=world.jobs, publisher=world.publisher, refusals=world.refusals)


def test_a_job_has_its_row_before_its_message(world: ControlWorld, jobs: Jobs) -> None:
    """The message is a batch of one BE request, at the cluster that it enters."""
    submitted = jobs.submit(NewJob(service=BATCH.name, cluster="c2"))

    [batch] = world.publisher.batches
    assert (batch.run_id, batch.request_ids, batch.cluster, batch.service_class) == (
        submitted.key.run_id,
        (submitted.key.request_id,),
        "c2",
        1,
    )
    assert jobs.job(submitted.key).state == "released"


def test_a_broker_that_is_away_costs_no_job(world: ControlWorld, jobs: Jobs) -> None:
    """The reconciler finds it among those that nobody has claimed."""
    world.publisher.away = True

    key = jobs.submit(NewJob(service=BATCH.name)).key

    assert jobs.job(key).state == "released"
    assert [b.request_ids for b in world.requests.unclaimed(older_than_s=-1.0, limit=10)] == [(key.request_id,)]


def test_a_key_that_was_given_is_kept_and_one_that_was_not_is_drawn(world: ControlWorld, jobs: Jobs) -> None:
    """The second under a key is not announced again; two without one are two."""
    first, again = (jobs.submit(NewJob(service=BATCH.name, key="k")) for _ in range(2))
    free = {jobs.submit(NewJob(service=BATCH.name)).key for _ in range(2)}

    assert (first.key, first.is_new, again.is_new) == (again.key, True, False)
    assert len(free) == 2
    assert len(world.publisher.batches) == 3


def test_an_order_by_message_is_one_job_however_often_it_comes(jobs: Jobs) -> None:
    """The id of its message is its key, unless it names one; too much in it is refused."""
    twice = {jobs.submit_order({"service": BATCH.name}, tenant="", key="message-1").key for _ in range(2)}
    named = jobs.submit_order({"service": BATCH.name, "key": "k"}, tenant="ana", key="message-2")

    assert len(twice) == 1
    assert (jobs.job(named.key).idempotency_key, jobs.job(named.key).tenant) == ("k", "ana")
    assert jobs.job(twice.pop()).tenant == "default"
    with pytest.raises(RequestRejected, match="expected at most 65536: pass a reference"):
        jobs.submit_order({"service": BATCH.name, "env": {"A": "x" * 70_000}}, tenant="", key="m")


def test_a_job_that_waits_is_shown_with_what_clusters_refuse(world: ControlWorld, jobs: Jobs) -> None:
    """Of its own service, and of all; in the server's words. Not before it waits for a node."""
    key = jobs.submit(NewJob(service=BATCH.name)).key
    words = 'pods "be-1" is forbidden: exceeded quota: best-effort'
    world.refusals.note(
        [
            Refusal.of(RefusalKind.QUOTA, cluster="c1", service=BATCH.name, words=words),
            Refusal.of(RefusalKind.QUOTA, cluster="c1", service="other", words="of another service"),
            Refusal.of(RefusalKind.PERMISSION, cluster="c2", service=BATCH.name, words="may not create pods"),
        ],
        role="scheduler",
    )
    before = shown_job(jobs.job(key))["waiting"]
    world.admit(key.run_id, [key.request_id])

    assert before == "it waits for the scheduler to admit it"
    assert shown_job(jobs.job(key))["waiting"] == f"c1 refuses it, quota: {words}; c2 refuses it, permission: may not create pods"


def test_jobs_of_other_tenants_are_not_there(jobs: Jobs) -> None:
    """Neither to look at nor to cancel."""
    key = jobs.submit(NewJob(service=BATCH.name, tenant="ana")).key

    for call in (jobs.job, jobs.cancel):
        with pytest.raises(UsageError, match=f"there is no job {key}"):
            call(key, tenant="ben")
    assert jobs.cancel(key, tenant="ana").state == "cancelled"
    assert jobs.cancel(key).state == "cancelled"


def test_what_scripts_depend_on_comes_first(jobs: Jobs) -> None:
    """Of a job that has not been placed, what is unknown is null."""
    shown = shown_job(jobs.job(jobs.submit(NewJob(service=BATCH.name)).key))

    assert list(shown)[:6] == ["job", "state", "exit_code", "attempts", "node", "reason"]
    assert [shown[name] for name in ("state", "exit_code", "attempts", "node", "reason")] == ["released", None, 0, None, None]
