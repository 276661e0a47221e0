"""`tango service list|show`: how many instances are ready, and refusals that fit into a table."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tango.cli.failures import exit_status
from tango.cli.main import cli
from tango.cli.refusals import MOST_WORDS, told, told_shortly
from tango.domain.observations import InstanceState
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import RefusalState
from tests.fakes.own_fleet import empty_snapshot
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
    listed = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row["instances"] for row in listed}

    assert "1 of 2" in table
    assert (rows[WEB.name], rows[BATCH.name]) == ({"ready": 1, "made": 2}, None)
    assert {(row["tenant"], *row["open_to"]) for row in listed} == {("default", "all")}


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


class Fleet:
    """A fleet store whose instances become ready one look after the other."""

    def __init__(self, looks: list[int]) -> None:
        self.looks, self.put = looks, list[str]()

    def put_services(self, services: Any) -> None:
        """Noted."""
        self.put += [s.name for s in services]

    def snapshot(self, *, at_s: float) -> Any:
        """All nodes ready."""
        return empty_snapshot(FLEET, ())

    def instances(self) -> list[tuple[str, InstanceState]]:
        """As many ready as the next look finds."""
        ready = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [_instance(f"i{k}", ready=k < ready) for k in range(NODES)]


NODES = sum(len(cluster.nodes) for cluster in FLEET.clusters)


def apply(monkeypatch: pytest.MonkeyPatch, looks: list[int], *options: str) -> tuple[int, Fleet]:
    """(exit status, the store) of an apply of service web and a BE service."""
    fleet = Fleet(looks)
    state = RefusalState(
        cluster="c1",
        service="web",
        node="n2",
        role="agent",
        kind=RefusalKind.NODE,
        words="web: ErrImagePull",
        times=1,
        since_s=0.0,
        left_s=1.0,
    )
    refusals = SimpleNamespace(pauses=lambda: SimpleNamespace(states=[state]))
    monkeypatch.setattr("tango.bootstrap.stores.stores", lambda: SimpleNamespace(fleet=fleet, refusals=refusals))
    monkeypatch.setattr("tango.fleets.load_services", lambda path: (WEB, BATCH))
    monkeypatch.setattr("tango.cli.service.ROLLOUT_LOOK_S", 0.01)
    return exit_status(cli, ["service", "apply", "-f", "web.yaml", *options]), fleet


def test_an_apply_that_waits_ends_when_all_are_ready(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What changes is said once; a BE service has nothing to wait for."""
    status, fleet = apply(monkeypatch, [0, 0, 1, NODES], "--wait")

    said = capsys.readouterr().err.splitlines()
    assert (status, fleet.put) == (0, ["web", "batch"])
    assert [line.partition(" instances")[0] for line in said] == [
        "declared: web, batch",
        f"web: 0 of {NODES}",
        f"web: 1 of {NODES}",
        f"web: {NODES} of {NODES}",
    ]


def test_an_apply_whose_time_is_over_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """124, as `job wait`; the service is declared all the same. Without --wait there is no time to be over."""
    status, fleet = apply(monkeypatch, [1], "--wait", "--timeout", "0")
    said = capsys.readouterr().err
    usage, untouched = apply(monkeypatch, [1], "--timeout", "5")

    assert (status, fleet.put) == (124, ["web", "batch"])
    assert f"not ready in time: web: 1 of {NODES} instances ready; c1/n2 refuses it, node: web: ErrImagePull. It goes on" in said
    assert (usage, untouched.put) == (2, [])
