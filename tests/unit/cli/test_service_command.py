"""`tango service list|show`: how many instances are ready, and refusals that fit into a table."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.cli.refusals import MOST_WORDS, told, told_shortly
from tango.domain.observations import InstanceState
from tests.fakes.store_world import BATCH, FLEET, WEB

ROW = {"kind": "quota", "service": "web", "node": "", "met_by": "agent", "again_in_s": 4, "words": "exceeded " * 50}


def _instance(name: str, *, ready: bool, service: str = WEB.name) -> tuple[str, InstanceState]:
    return "c1", InstanceState(
        pod=name,
        uid=name,
        service=service,
        node="n1",
        pod_ip="10.0.0.1",
        port=80,
        ready=ready,
        cpu_request_millicores=100,
        cpu_limit_millicores=200,
        memory_limit_mib=64,
    )


@pytest.fixture(autouse=True)
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet with two instances of the LC service, of which one is ready."""
    fleet = SimpleNamespace(
        services=lambda: FLEET.services,
        instances=lambda: [_instance("a", ready=True), _instance("b", ready=False), _instance("c", ready=True, service="other")],
        measured=lambda names: [],
    )
    refusals = SimpleNamespace(pauses=lambda: SimpleNamespace(states=[]))
    monkeypatch.setattr("tango.bootstrap.stores.stores", lambda: SimpleNamespace(fleet=fleet, refusals=refusals))


def test_a_listing_says_how_many_instances_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Of how many there are; a BE service has none."""
    assert exit_status(cli, ["service", "list"]) == 0
    table = capsys.readouterr().out
    assert exit_status(cli, ["service", "list", "-o", "json"]) == 0
    rows = {row["name"]: row["instances"] for row in json.loads(capsys.readouterr().out)}

    assert "1 of 2" in table
    assert (rows[WEB.name], rows[BATCH.name]) == ({"ready": 1, "made": 2}, None)


def test_a_shown_service_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside what its pods are."""
    assert exit_status(cli, ["service", "show", WEB.name]) == 0

    assert "1 of 2 instances ready; 0 requests measured" in capsys.readouterr().err


def test_refusals_in_a_table_are_as_wide_as_a_line() -> None:
    """The beginning of the first one's words, and how many more there are; told in full they are longer."""
    shortly = told_shortly([ROW, ROW, ROW])

    assert shortly.startswith("quota of web (agent, again in 4 s): exceeded exceeded")
    assert shortly.endswith("…; and 2 more")
    assert len(shortly) < MOST_WORDS + 60 < len(told([ROW]))
    assert told_shortly([]) == ""
