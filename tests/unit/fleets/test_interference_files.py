"""What services do to their neighbours, as fleet files declare it."""

from __future__ import annotations

import dataclasses

import pytest

from tango.domain.interference import ServiceInterference
from tango.errors import ConfigError, FileRefused
from tango.fleets import dump_fleet, parse_fleet

PLAIN = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: small}
spec:
  clusters:
    - {name: a, nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 8192}]}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, memory_mib: 32, target_ms: 100, instance_memory_mib: 256}
    - {name: batch, class: be, cpu_work_s: 1, memory_mib: 512}
"""
TEXT = (
    PLAIN
    + """\
  interference:
    web: {sensitivity: {cache: 0.5, core: 0.25}}
    batch: {pressure: {memory_bandwidth: 2, core: 1}, sensitivity: {}}
"""
)


def test_kinds_that_are_not_named_are_zero_and_a_sensitivity_that_is_not_said_is_none() -> None:
    """In order of the services' names, whatever the order in the file. An empty mapping says that nothing is minded."""
    assert parse_fleet(TEXT, "f.yaml").interference == (
        ServiceInterference(service="batch", pressure=(2.0, 0.0, 1.0), sensitivity=(0.0, 0.0, 0.0)),
        ServiceInterference(service="web", sensitivity=(0.0, 0.5, 0.25)),
    )
    only_pressure = parse_fleet(PLAIN + "  interference: {batch: {pressure: {cache: 1}}}\n", "f.yaml")
    assert only_pressure.interference[0].sensitivity is None


def test_interference_survives_dump_and_load_and_counts_in_the_hash() -> None:
    """Two fleets with other figures are not the same fleet; one without any has the hash of before there were kinds."""
    fleet, plain = parse_fleet(TEXT, "f.yaml"), parse_fleet(PLAIN, "f.yaml")

    assert parse_fleet(dump_fleet(fleet), "dumped.yaml") == fleet
    assert parse_fleet(TEXT.replace("core: 0.25", "core: 0.26"), "f.yaml").source_hash != fleet.source_hash
    assert fleet.source_hash != plain.source_hash
    assert parse_fleet(PLAIN + "  interference: {}\n", "f.yaml").source_hash == plain.source_hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    web: {s",
            "    wep: {s",
            r"f.yaml:11: .*is of 'wep', no service of this fleet.*expected a key that is one of: web, batch",
        ),
        ("cache: 0.5", "chache: 0.5", r"f.yaml:11: .*chache is an unknown key.*cache"),
        ("core: 1}", "core: -1}", r"f.yaml:12: .*batch.pressure.core is -1, expected a number from 0 to 100"),
        ("{cache: 0.5, core: 0.25}", "0.5", r"f.yaml:11: .*web.sensitivity is 0.5, expected a mapping"),
        ("batch: {pressure", "batch: {presure", r"f.yaml:12: .*presure is an unknown key"),
    ],
)
def test_a_mistake_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    """Names of services and kinds, and figures out of bounds."""
    with pytest.raises(FileRefused, match=message):
        parse_fleet(TEXT.replace(old, new), "f.yaml")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ((ServiceInterference(service="wep"),), "interference of a service that is not declared: wep"),
        ((ServiceInterference(service="web"), ServiceInterference(service="web")), "interference of a service declared twice: web"),
    ],
)
def test_a_fleet_declares_each_of_its_services_once(declared: tuple[ServiceInterference, ...], message: str) -> None:
    """Also where it is made by no file."""
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(parse_fleet(PLAIN, "f.yaml"), interference=declared)


@pytest.mark.parametrize("figures", [(0.1, 0.2), (0.1, 0.2, -0.1), (0.1, 0.2, float("nan")), (0.1, 0.2, 101.0)])
def test_figures_are_one_for_each_kind_and_within_bounds(figures: tuple[float, ...]) -> None:
    """Of pressure and of sensitivity alike."""
    with pytest.raises(ConfigError, match="pressure of service 'web'"):
        ServiceInterference(service="web", pressure=figures)
    with pytest.raises(ConfigError, match="sensitivity of service 'web'"):
        ServiceInterference(service="web", sensitivity=figures)
