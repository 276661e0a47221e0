"""`tango tenant`: what is declared, listed and withdrawn, with which exit status, and a job too many."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.domain.tenants import Tenant, TenantShare
from tango.settings import SharingSettings
from tests.fakes.store_world import BATCH, StoreWorld, memory_world

FILE = "apiVersion: tango/v1\nkind: Tenant\nmetadata: {name: blue}\nspec: {weight: 2, quota: {cpu: 2}, jobs: 1}\n"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> StoreWorld:
    """In memory, and the commands'."""
    world = memory_world()
    monkeypatch.setattr("tango.cli.tenant._tenants", lambda: world.tenants)
    here = SimpleNamespace(
        fleet=world.fleet, clock=SimpleNamespace(now_s=lambda: 0.0), settings=SimpleNamespace(sharing=SharingSettings())
    )
    monkeypatch.setattr("tango.bootstrap.stores.stores", lambda: here)
    monkeypatch.setattr("tango.cli.job._stores", lambda: SimpleNamespace(jobs=world.jobs, refusals=world.refusals))
    monkeypatch.setattr("tango.cli.job.publisher", lambda: SimpleNamespace(arrivals=lambda batches: None))
    return world


def test_a_trial_says_what_would_change_and_changes_nothing(
    world: StoreWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an application and of a withdrawal."""
    file = tmp_path / "tenants.yaml"
    file.write_text(FILE)

    statuses = [exit_status(cli, ["tenant", "apply", "-f", str(file), "--dry-run"]), len(world.tenants.declared())]
    statuses += [exit_status(cli, ["tenant", "apply", "-f", str(file)]), len(world.tenants.declared())]
    statuses += [exit_status(cli, ["tenant", "delete", "blue", "--dry-run"]), len(world.tenants.declared())]

    assert statuses == [0, 0, 0, 1, 0, 1]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "blue: new, weight 2, quota 2 of cpu, jobs 1"
    assert "would withdraw weight, quota and guarantee of tenant blue" in said[-1]


def test_guarantees_that_the_fleet_cannot_keep_are_refused_together_with_those_that_are_declared(
    world: StoreWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a trial too; one fits, two do not. The list has what is guaranteed."""
    file = tmp_path / "tenants.yaml"
    text = "apiVersion: tango/v1\nkind: Tenant\nmetadata: {name: NAME}\nspec: {guarantee: {cpu: 6}}\n"
    statuses = []
    for name, options in (("blue", ()), ("red", ("--dry-run",)), ("red", ())):
        file.write_text(text.replace("NAME", name))
        statuses.append(exit_status(cli, ["tenant", "apply", "-f", str(file), *options]))

    said = capsys.readouterr().err
    assert statuses == [0, 3, 3]
    assert list(world.tenants.declared()) == ["blue"]
    assert "cannot keep what tenants are guaranteed" in said
    assert exit_status(cli, ["tenant", "list", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["guarantee"] == "6 cpu"


def test_a_tenant_is_withdrawn_by_its_name(world: StoreWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown one is a matter of usage, as is one without a yes where nobody can be asked."""
    world.tenants.put([Tenant(name="blue")])

    assert exit_status(cli, ["tenant", "delete", "blu", "--yes"]) == 2
    assert exit_status(cli, ["tenant", "delete", "blue"]) == 2
    assert exit_status(cli, ["tenant", "delete", "blue", "--yes"]) == 0
    assert "did you mean 'blue'" in capsys.readouterr().err
    assert world.tenants.declared() == {}


def test_the_list_has_who_is_declared_and_who_has_requests_with_their_shares(
    world: StoreWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares are known while several compete."""
    world.tenants.put([Tenant(name="blue", weight=2.0)])
    run_id = world.create(BATCH, BATCH)
    world.release(run_id)
    world.admit(run_id, [0, 1])
    told = TenantShare(tenant="default", share=0.5, weighted_share=0.5, held={}, below_s=None, withheld=False)
    world.tenants.tell([told])

    assert exit_status(cli, ["tenant", "list", "-o", "json"]) == 0

    rows = {row["tenant"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["blue"]["weight"], rows["blue"]["is_declared"], rows["blue"]["share"]) == (2.0, True, None)
    assert (rows["default"]["waiting"], rows["default"]["is_declared"], rows["default"]["share"]) == (2, False, 0.5)


def test_a_job_too_many_is_refused_with_3_and_a_tenant_without_a_name_with_2(
    world: StoreWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both say what is wrong."""
    world.tenants.put([Tenant(name="blue", most_jobs=1)])
    submit = ["job", "submit", "--service", BATCH.name, "--tenant"]

    assert [exit_status(cli, [*submit, name]) for name in ("blue", "blue", "red", "Team A")] == [0, 3, 0, 2]
    said = capsys.readouterr().err
    assert "tenant blue has 1 live jobs, which is the most that it may have at a time" in said
    assert "'Team A' is no tenant" in said
