from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tango.domain.fleet import RunPods
from tango.domain.kubelet_ways import KubeletWays
from tango.domain.services import ServiceClass, service_of, spec_of
from tango.errors import ConfigError, FileRefused, UsageError
from tango.fleets import dump_fleet, dump_services, fleet_names, load_fleet, load_services

ROOT = Path(__file__).parents[3]

SMALL = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: tiny}
spec:
  beta: 0.5
  clusters:
    - name: c1
      nodes:
        - {name: n1, cpu_millicores: 4000, memory_mib: 8192}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, memory_mib: 32, target_ms: 100, instance_memory_mib: 256}
    - {name: batch, class: be, cpu_work_s: 1, memory_mib: 512}
"""


def _fleet(tmp_path: Path, text: str):
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return load_fleet(path)


def test_built_in_fleets_are_found_by_name() -> None:
    """Eight fleets ship with the package."""
    assert fleet_names() == (
        *("bench", "continent", "demo", "paper", "paper-interference", "single", "testbed", "testbed-interference"),
    )


def test_demo_fleet_carries_its_load_at_60_to_75_percent() -> None:
    """50 requests per second, LC share 0.7, BE work 3 s must leave capacity on the demo fleet."""
    fleet = load_fleet("demo")
    cores = sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1000
    lc = fleet.services_of(ServiceClass.LC)
    be = fleet.services_of(ServiceClass.BE)

    mean_lc_s = sum(s.cpu_work_s for s in lc) / len(lc)
    demand = 35 * mean_lc_s + 15 * 3.0

    assert [len(c.nodes) for c in fleet.clusters] == [4, 4, 4]
    assert (len(lc), len(be)) == (4, 3)
    assert sum(s.cpu_work_s for s in be) / 3 == pytest.approx(3.0)
    assert 0.60 <= demand / cores <= 0.75


def test_lc_targets_leave_time_for_work_at_half_a_core() -> None:
    """A lone request meets its target from the farthest site even at half a core with full interference."""
    for name in fleet_names():
        fleet = load_fleet(name)
        for service in fleet.services_of(ServiceClass.LC):
            slow_ms = service.cpu_work_s * 1000 / 0.5 * (1 + fleet.beta) + fleet.rtt_ms().max()
            assert slow_ms < service.target_ms


def test_bench_fleet_is_at_most_half_busy_at_thousands_per_second() -> None:
    """6.8 ms of mean work leave half of the bench fleet idle at 28,000 requests per second."""
    fleet = load_fleet("bench")
    cores = sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1000
    work = {s.service_class: s.cpu_work_s for s in fleet.services}

    mean_s = 0.9 * work[ServiceClass.LC] + 0.1 * work[ServiceClass.BE]

    assert 28_000 * mean_s / cores <= 0.5


@pytest.mark.parametrize("name", ["bench", "demo", "single"])
def test_a_dumped_fleet_reads_back_equal(name: str, tmp_path: Path) -> None:
    """dump and load are inverse, hash included."""
    fleet = load_fleet(name)

    assert _fleet(tmp_path, dump_fleet(fleet)) == fleet


def test_the_hash_follows_values_and_not_comments(tmp_path: Path) -> None:
    """Two files that declare the same have one hash; a changed figure changes it."""
    plain = _fleet(tmp_path, SMALL).source_hash

    assert _fleet(tmp_path, "# a comment\n" + SMALL).source_hash == plain
    assert _fleet(tmp_path, SMALL.replace("beta: 0.5", "beta: 0.6")).source_hash != plain
    assert len(plain) == 64


def test_an_unknown_fleet_lists_the_known_ones() -> None:
    """The caller sees what exists; exit status 2."""
    with pytest.raises(
        UsageError, match="known fleets: bench, continent, demo, paper, paper-interference, single, testbed, "
    ) as caught:
        load_fleet("dmeo")

    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("beta: 0.5", "betta: 0.5", ["fleet.yaml:5: spec.betta is an unknown key", "beta", "clusters"]),
        (
            "cpu_millicores: 4000",
            "cpu_millicores: 4.5",
            ["fleet.yaml:9: spec.clusters[0].nodes[0].cpu_millicores is 4.5, expected a whole number"],
        ),
        ("cpu_millicores: 4000", "cpu_millicores: yes", ["cpu_millicores is True, expected a whole number"]),
        ("cpu_millicores: 4000, ", "", ["fleet.yaml:9: spec.clusters[0].nodes[0].cpu_millicores is missing"]),
        ("beta: 0.5", "beta: .nan", ["spec.beta is nan, expected a number"]),
        ("beta: 0.5", "beta: -1", ["spec.beta is -1, expected a number from 0"]),
        ("name: n1", "name: Node_1", ["spec.clusters[0].nodes[0].name is 'Node_1', expected a name of lower case"]),
        ("class: be", "class: batch", ["spec.services[1].class is 'batch', expected lc or be"]),
        ("target_ms: 100, ", "", ["fleet.yaml:11: spec.services[0].target_ms is missing"]),
        ("class: be, ", "class: be, target_ms: 5, ", ["fleet.yaml:12", "a BE service has no target"]),
        ("kind: Fleet", "kind: Service", ["fleet.yaml:2: kind is 'Service', expected Fleet"]),
        ("kind: Fleet", "kind: Fleet\nkind: Fleet", ["fleet.yaml:3: kind is given twice"]),
        (
            "name: batch, class",
            "name: web, class",
            ["fleet.yaml:12: spec.services[1].name is 'web', the name in line 11, expected a service name of its own"],
        ),
        ("beta: 0.5", "beta: [1, 2", ["fleet.yaml:", "cannot be read as YAML: ", "; look at"]),
        ("tango/v1", "tango/v2", ["fleet.yaml:1: apiVersion is 'tango/v2', expected tango/v1"]),
        ("clusters:\n", "clusters: 3\n  other:\n", ["spec.clusters is 3, expected a list"]),
        (SMALL, "", ["found 0 documents, expected one of kind Fleet"]),
        (SMALL, "just text", ["fleet.yaml:1: document is 'just text', expected a mapping"]),
    ],
)
def test_a_wrong_fleet_file_names_file_line_key_found_and_expected(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    """Nothing is started with a wrong declaration, and the message says what to mend."""
    assert old in SMALL

    with pytest.raises(ConfigError) as caught:
        _fleet(tmp_path, SMALL.replace(old, new, 1))

    for part in parts:
        assert part in str(caught.value)


def test_a_missing_or_unreadable_fleet_file_is_one_clear_error(tmp_path: Path) -> None:
    """No foreign exception leaves the reader."""
    with pytest.raises(ConfigError, match="no such file"):
        load_fleet(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_fleet(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"latin.yaml:2: found the byte 0xff, expected UTF-8"):
        load_fleet(tmp_path / "latin.yaml")


def test_service_examples_are_those_of_the_demo_fleet() -> None:
    """The examples that users copy stay equal to the built-in services."""
    examples = load_services(ROOT / "deploy" / "services")

    assert set(examples) == set(load_fleet("demo").services)


def test_services_round_trip_through_yaml(tmp_path: Path) -> None:
    """Every field of a service survives dump and load."""
    services = tuple(sorted(load_fleet("demo").services, key=lambda s: s.name))
    changed = (dataclasses.replace(services[0], port=9000, image="registry/x:1"), *services[1:])
    path = tmp_path / "services.yaml"
    path.write_text(dump_services(changed))

    assert load_services(path) == changed


def test_a_service_declared_twice_or_a_file_without_one_is_refused(tmp_path: Path) -> None:
    """A file says each thing once, and something at all."""
    path = tmp_path / "services.yaml"
    one = dump_services(load_fleet("single").services[:1])
    path.write_text(f"---\n{one}---\n{one}")
    with pytest.raises(ConfigError, match=r"metadata.name is 'web', expected each service once"):
        load_services(path)
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="found no document"):
        load_services(path)


def test_local_processes_start_in_the_folder_of_the_fleet_s_file(tmp_path: Path) -> None:
    """Written out the folder is absolute; neither it nor that they are real is part of the hash, by which results are told apart."""
    modelled = _fleet(tmp_path, SMALL)
    fleet = _fleet(tmp_path, SMALL.replace("beta: 0.5", "beta: 0.5\n  run: processes\n  process_folder: jobs"))
    path = tmp_path / "elsewhere" / "fleet.yaml"
    path.parent.mkdir()
    path.write_text(dump_fleet(fleet))

    assert (fleet.run, fleet.process_folder) == (RunPods.PROCESSES, str(tmp_path / "jobs"))
    assert load_fleet(path) == fleet
    assert "run" not in dump_fleet(modelled)
    assert fleet.source_hash == modelled.source_hash


def test_the_ways_of_kubelets_are_read_written_and_no_part_of_the_hash(tmp_path: Path) -> None:
    """They are of embedded clusters alone; a wrong one is refused with its line."""
    usual = _fleet(tmp_path, SMALL)
    ways = "kubelets: {pull_s: 5, absent_images: [gone], backoff_s: [1, 60]}"
    fleet = _fleet(tmp_path, SMALL.replace("beta: 0.5", f"beta: 0.5\n  {ways}"))
    path = tmp_path / "written.yaml"
    path.write_text(dump_fleet(fleet))

    assert fleet.kubelets == KubeletWays(pull_s=5, absent_images=("gone",), backoff_s=(1, 60))
    assert load_fleet(path) == fleet
    assert "kubelets" not in dump_fleet(usual)
    assert fleet.source_hash == usual.source_hash
    with pytest.raises(ConfigError, match=r":6: spec.kubelets: pull is an unknown key"):
        _fleet(tmp_path, SMALL.replace("beta: 0.5", "beta: 0.5\n  kubelets: {pull: 5}"))


@pytest.mark.parametrize(
    ("said", "tenant", "open_to", "closed_to"),
    [
        ("", "default", "red", ""),
        ("tenant: blue", "blue", "blue", "red"),
        ("tenant: default", "default", "default", "red"),
        ("tenant: blue, shared: true", "blue", "red", ""),
        ("tenant: blue, allowed_tenants: [red]", "blue", "red", "green"),
        ("shared: false", "default", "default", "red"),
    ],
)
def test_who_may_send_to_a_service(tmp_path: Path, said: str, tenant: str, open_to: str, closed_to: str) -> None:
    """What names no tenant is open to all, as it was before there were tenants; what names one is that tenant's alone, unless it says more.
    Written out it is read again as it was."""
    path = tmp_path / "web.yaml"
    path.write_text(
        "{apiVersion: tango/v1, kind: Service, metadata: {name: web}, "
        f"spec: {{class: be, cpu_work_s: 1, memory_mib: 512, {said}}}}}"
    )

    (service,) = load_services(path)
    path.write_text(dump_services([service]))

    assert service.tenant == tenant
    assert service.admits(open_to)
    assert not closed_to or not service.admits(closed_to)
    assert load_services(path) == (service,)


@pytest.mark.parametrize(
    "said", ["tenant: Blue", "tenant: blue, shared: true, allowed_tenants: [red]", "tenant: blue, allowed_tenants: red"]
)
def test_tenants_of_a_service_that_make_no_sense_are_refused(tmp_path: Path, said: str) -> None:
    """With the place."""
    path = tmp_path / "web.yaml"
    path.write_text(
        "{apiVersion: tango/v1, kind: Service, metadata: {name: web}, "
        f"spec: {{class: be, cpu_work_s: 1, memory_mib: 512, {said}}}}}"
    )

    with pytest.raises(FileRefused, match=r"web.yaml:1.*tenant"):
        load_services(path)


def test_a_declaration_of_before_there_were_tenants_is_open_to_all() -> None:
    """As stores have it that were made then."""
    (service,) = (s for s in load_fleet("demo").services if s.service_class is ServiceClass.BE and s.name == "video-transcode")
    spec = {name: value for name, value in spec_of(service).items() if name not in ("tenant", "shared", "allowed_tenants")}

    assert service_of(spec) == service
    assert service_of(spec).admits("anybody")
