"""The table of processes: names, order and what each is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tango.stack.processes import ClusterPlaces, Layout, LinePlaces, application_processes
from tango.stack.supervisor import stop_order

HOME = Path("/home/of/it")
LAYOUT = Layout(
    home=HOME,
    clusters=tuple(
        ClusterPlaces(
            name=name, port=6000 + k, token_file=HOME / "tokens", data=HOME / name, pods=HOME / name, gateway_port=8000 + k
        )
        for k, name in enumerate(("c1", "c2"))
    ),
    fleet_file=HOME / "fleet.yaml",
    kubeconfig=HOME / "kubeconfig",
    flower_port=5555,
    flower_login="tango:hidden",
    console_port=5556,
    console_token="hidden-token",
    environment={"TANGO_DATABASE_URL": "postgresql://tango_app:hidden@/tango"},
)


FAR = dataclasses.replace(LAYOUT, line=LinePlaces(port=7000, target="/run/postgres", state_file=HOME / "line.json"))
"""The same with a line between the clusters and the centre."""


def test_the_clusters_share_processes_where_they_are_in_one_place() -> None:
    """The names are those of the documentation."""
    names = [spec.name for spec in application_processes(LAYOUT)]
    assert names == [
        "apiserver",
        "kubelet",
        "agent",
        "worker-1",
        "worker-2",
        "gateway",
        "scheduler",
        "replayer",
        "beat",
        "flower",
        "console",
    ]


def test_a_cluster_behind_a_line_has_processes_of_its_own() -> None:
    """With the addresses of its side of the line, which the others do not get."""
    layout = dataclasses.replace(FAR, cluster_environment={c: {"TANGO_BROKER_URL": f"redis://{c}"} for c in ("c1", "c2")})
    specs = {spec.name: spec for spec in application_processes(layout)}

    assert {"line", "apiserver-c1", "apiserver-c2", "kubelet-c1", "kubelet-c2"} <= set(specs)
    assert {"agent-c1", "agent-c2", "worker-c1-1", "worker-c1-2", "worker-c2-1", "worker-c2-2"} <= set(specs)
    for name in ("agent-c2", "worker-c2-1", "gateway-c2"):
        assert specs[name].environment["TANGO_BROKER_URL"] == "redis://c2"
    assert "TANGO_BROKER_URL" not in specs["scheduler"].environment
    assert "lc.c1,exec.c1" in list(specs["worker-c1-2"].command())


@pytest.mark.parametrize(("count", "names"), [(0, []), (1, ["simulator"]), (3, ["simulator", "simulator-2", "simulator-3"])])
def test_there_are_as_many_simulators_as_were_asked_for(count: int, names: list[str]) -> None:
    """Each takes one cell at a time in its own process, which a kill ends with its work."""
    specs = application_processes(dataclasses.replace(LAYOUT, simulators=count))
    simulators = [spec for spec in specs if spec.role == "simulation worker"]
    assert [spec.name for spec in simulators] == names
    for spec in simulators:
        command = list(spec.command())
        assert command[command.index("-Q") + 1] == "simulate"
        assert command[command.index("--pool") + 1] == "solo"
        assert f"{spec.name}@%h" in command


def test_no_secret_stands_in_a_command_line() -> None:
    """Everybody on the machine may read argument lists."""
    for spec in application_processes(LAYOUT):
        assert "hidden" not in " ".join(spec.command())
        assert "hidden" not in repr(spec)


def test_every_queue_of_a_cluster_has_its_worker() -> None:
    """Two processes each, so that one which dies or hangs leaves them to the other."""
    commands = {spec.name: list(spec.command()) for spec in application_processes(LAYOUT)}
    for name in ("worker-1", "worker-2"):
        assert "lc.c1,exec.c1,lc.c2,exec.c2" in commands[name]
    assert commands["agent"][-4:] == ["--cluster", "c1", "--cluster", "c2"]
    assert commands["gateway"][-8:] == ["--cluster", "c1", "--port", "8000", "--cluster", "c2", "--port", "8001"]
    assert "control" in commands["scheduler"]
    assert "replay" in commands["replayer"]


def test_api_servers_outlive_those_who_call_them() -> None:
    """Layers are stopped one after the other, users of the API servers first."""
    groups = stop_order(application_processes(LAYOUT))
    assert groups[-1] == ["apiserver"]
    assert {"kubelet", "agent", "worker-1", "beat"} <= set(groups[0])
