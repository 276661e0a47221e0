"""Nodes with devices and services that ask for them: read strictly, written back equal, and told apart from what a cluster takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.domain.fleet import MOST_PODS
from tango.errors import ConfigError
from tango.fleets import dump_fleet, dump_services, load_services, parse_fleet
from tango.fleets.extended import refuse_fractions

TEXT = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: devices}
spec:
  clusters:
    - name: c1
      nodes:
        - {name: n1, cpu_millicores: 4000, memory_mib: 4096, pods: 30, extended: {nvidia.com/gpu: 2, example.com/fpga: 500m}}
        - {name: n2, cpu_millicores: 4000, memory_mib: 4096, extended: {nvidia.com/gpu: 1}}
  services:
    - {name: plain, class: be, cpu_work_s: 1, memory_mib: 512}
    - {name: detect, class: be, cpu_work_s: 1, memory_mib: 512, extended: {nvidia.com/gpu: 0.5}}
    - {name: web, class: lc, cpu_work_s: 0.02, memory_mib: 32, target_ms: 100, instance_memory_mib: 256}
"""


def test_amounts_are_thousandths_however_they_are_written() -> None:
    """`0.5`, `500m` and `2` of one; pods are 110 unless said."""
    fleet = parse_fleet(TEXT, "f.yaml")

    first, second = fleet.nodes
    assert first.extended == (("example.com/fpga", 500), ("nvidia.com/gpu", 2000))
    assert (first.pods, second.pods) == (30, MOST_PODS)
    assert {s.name: s.extended for s in fleet.services} == {"plain": (), "detect": (("nvidia.com/gpu", 500),), "web": ()}


def test_a_fleet_with_devices_is_written_and_read_back_equal(tmp_path: Path) -> None:
    """Hash included; and services by themselves."""
    fleet = parse_fleet(TEXT, "f.yaml")

    assert parse_fleet(dump_fleet(fleet), "g.yaml") == fleet
    (tmp_path / "s.yaml").write_text(dump_services(fleet.services))
    assert {s.name: s for s in load_services(tmp_path / "s.yaml")} == {s.name: s for s in fleet.services}


def test_the_hash_tells_fleets_apart_by_devices_and_by_pods() -> None:
    """They decide what fits. To say the default changes nothing: results of before stay valid."""
    whole = parse_fleet(TEXT, "f.yaml").source_hash

    assert parse_fleet(TEXT.replace("nvidia.com/gpu: 2", "nvidia.com/gpu: 3"), "f.yaml").source_hash != whole
    assert parse_fleet(TEXT.replace("pods: 30", "pods: 31"), "f.yaml").source_hash != whole
    assert (
        parse_fleet(
            TEXT.replace("4096, extended: {nvidia.com/gpu: 1}", "4096, pods: 110, extended: {nvidia.com/gpu: 1}"), "f.yaml"
        ).source_hash
        == whole
    )


def test_machine_types_of_a_recipe_have_devices_too() -> None:
    """Every node of the type."""
    recipe = """  generate: {clusters: 2, nodes_min: 2, nodes_max: 2, area_km: 10, seed: 1, machines: [
    {share: 1, cpu_millicores: 4000, memory_mib: 4096, extended: {nvidia.com/gpu: 4}}]}
  services:
"""
    head, _, services = TEXT.partition("  clusters:\n")[0], None, TEXT.partition("  services:\n")[2]

    fleet = parse_fleet(head + recipe + services, "f.yaml")

    assert [node.extended for node in fleet.nodes] == [(("nvidia.com/gpu", 4000),)] * 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "nvidia.com/gpu: 2",
            "gpu: 2",
            "f.yaml:8: spec.clusters[0].nodes[0].extended.gpu is of 'gpu', expected a name such as nvidia.com/gpu, with a domain that "
            "is not Kubernetes' own",
        ),
        ("nvidia.com/gpu: 2", "kubernetes.io/gpu: 2", "is of 'kubernetes.io/gpu', expected a name such as nvidia.com/gpu"),
        (
            "nvidia.com/gpu: 2",
            "nvidia.com/gpu: two",
            "f.yaml:8: spec.clusters[0].nodes[0].extended.nvidia.com/gpu is 'two', expected a quantity such as 2 or 500m",
        ),
        ("nvidia.com/gpu: 2", "nvidia.com/gpu: 0", "is 0, expected more than 0 and at most 10000"),
        ("nvidia.com/gpu: 2", "nvidia.com/gpu: 0.0005", "is 0.0005, expected more than 0 and at most 10000, in whole thousandths"),
        ("nvidia.com/gpu: 2", "nvidia.com/gpu: [2]", "is a list, expected a quantity"),
        ("extended: {nvidia.com/gpu: 0.5}", "extended: 2", "f.yaml:12: spec.services[1].extended is 2, expected a mapping"),
        (
            "nvidia.com/gpu: 0.5",
            "nvidia.com/gpu: 3",
            "f.yaml:12: spec.services[1].extended of detect is 3 of nvidia.com/gpu, expected at most 2, the nvidia.com/gpu of the "
            "largest node",
        ),
        ("nvidia.com/gpu: 0.5", "other.com/x: 1", "is 1 of other.com/x, expected at most 0, the other.com/x of the largest node"),
        (
            "nvidia.com/gpu: 0.5",
            "example.com/fpga: 0.5, nvidia.com/gpu: 3",
            "expected at most 2, the nvidia.com/gpu of the largest node",
        ),
        (
            "instance_memory_mib: 256",
            "instance_memory_mib: 256, extended: {nvidia.com/gpu: 2}",
            "f.yaml:13: spec.services[2].extended of web is 2 of nvidia.com/gpu, expected what every node has, since LC instances stand on "
            "all of them: c1/n2 has less",
        ),
        ("pods: 30", "pods: 0", "pods is 0, expected a whole number from 1 to 10000"),
    ],
)
def test_what_is_no_device_or_fits_nowhere_is_refused_where_it_stands(old: str, new: str, message: str) -> None:
    """File, line, key, what was found and what to write instead."""
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        parse_fleet(TEXT.replace(old, new, 1), "f.yaml")

    assert message in str(caught.value)


def test_a_service_that_asks_for_a_part_is_for_simulation_alone() -> None:
    """Kubernetes gives extended resources out whole, so every pod would be refused: better said before anything starts."""
    services = parse_fleet(TEXT, "f.yaml").services

    with pytest.raises(
        ConfigError, match=r"service 'detect' asks for 500m of nvidia.com/gpu, expected whole ones.*simulate this fleet"
    ):
        refuse_fractions(services)
    refuse_fractions([s for s in services if s.name != "detect"])
