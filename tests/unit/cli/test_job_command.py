"""`tango job`, `tango live` and `tango request`: what ends with which exit status, and what people are told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.cli.request import USAGE, _status
from tango.client.errors import failure
from tango.domain.jobs import NewJob, drawn_key
from tango.domain.pod_templates import canonical_template
from tango.domain.services import Service, ServiceClass
from tests.fakes.store_world import BATCH, FLEET, StoreWorld, memory_world

CODE = Service(
    name="transcode",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
    template=canonical_template({"spec": {"containers": [{"name": "main", "image": "transcode:1"}]}}),
    container="main",
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> StoreWorld:
    """In memory, and the command's."""
    world = memory_world(FLEET)
    monkeypatch.setattr("tango.cli.job._stores", lambda: SimpleNamespace(jobs=world.jobs, refusals=world.refusals))
    return world


def test_a_wait_that_runs_out_is_told_from_a_job_that_failed_and_from_a_refusal(
    world: StoreWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """124, as of `timeout`; the message says that the job goes on. A job that was cancelled: 1."""
    waiting = world.jobs.submit(NewJob(service=BATCH.name, key="a")).key
    gone = world.jobs.submit(NewJob(service=BATCH.name, key="b")).key
    world.jobs.withdraw(gone)

    statuses = [exit_status(cli, ["job", "wait", str(key), "--timeout", "0"]) for key in (waiting, gone)]

    assert statuses == [124, 1]
    assert (
        f"job {waiting} is released (it waits for the scheduler to admit it) and has not ended in time; it goes on"
        in capsys.readouterr().err
    )


def test_exit_codes_without_retries_are_a_matter_of_usage(world: StoreWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names both options, and nothing is kept."""
    assert exit_status(cli, ["job", "submit", "--service", BATCH.name, "--retry-on", "75"]) == 2

    assert "--retry-on is for --retries above 0" in capsys.readouterr().err
    assert world.jobs.jobs() == []


def test_a_service_that_there_is_not_is_a_matter_of_usage_in_requests_too() -> None:
    """As in `tango job submit`; other refusals are refusals."""
    unknown, refused = (
        _status(failure(status, word, {}, None)) for status, word in ((404, "unknown-service"), (400, "bad-header"))
    )

    assert (unknown, refused) == (USAGE, 3)


def test_whoever_changes_the_system_is_told_that_the_open_run_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with both numbers; nothing where the run stays."""
    world = memory_world(FLEET)
    key = world.jobs.submit(NewJob(service=BATCH.name, key="a")).key
    first = world.runs.active_runs()[0]
    second = replace(first, run_id=first.run_id + 1)
    turns = iter([second, second])
    runs = SimpleNamespace(turn=lambda: first, set_use=lambda use: next(turns))
    monkeypatch.setattr("tango.bootstrap.stores.stores", lambda: SimpleNamespace(live_runs=runs))

    assert exit_status(cli, ["live", "use", "tango"]) == 0
    closed = capsys.readouterr().err
    first = second
    assert exit_status(cli, ["live", "use", "tango"]) == 0

    assert f"run {key.run_id} ({second.system}) is closed" in closed
    assert f"run {second.run_id} is open" in closed
    assert capsys.readouterr().err == ""


def test_a_shown_job_says_only_what_somebody_said_in_words(world: StoreWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments as a shell takes them, no key that was drawn for it, no blanks at the ends of lines."""
    code = NewJob(
        service="transcode", args=("a b", "c"), env=(("MODE", "fast way"),), retries=1, retry_on=(75, 137), key=drawn_key()
    )
    world.fleet.put_services([CODE])
    drawn = world.jobs.submit(code).key
    given = world.jobs.submit(replace(code, key="nightly")).key

    assert exit_status(cli, ["job", "show", str(drawn)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert exit_status(cli, ["job", "show", str(given)]) == 0

    said = dict(line.split(maxsplit=1) for line in lines[1:])
    assert [said.get(name) for name in ("args", "env", "retry_on", "key")] == ["'a b' c", "'MODE=fast way'", "75, 137", None]
    assert [line for line in lines if line != line.rstrip()] == []
    assert "nightly" in capsys.readouterr().out
