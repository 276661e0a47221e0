"""`shed_after_targets` of LC services: read, refused where it means nothing, and not said where it is the default."""

from __future__ import annotations

import pytest

from tango.errors import ConfigError
from tango.fleets import dump_fleet, load_fleet
from tango.fleets.catalog import parse_fleet
from tango.fleets.declarations import hash_of

TEXT = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: strict}
spec:
  clusters: [{name: c1, nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 4096}]}]
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, memory_mib: 32, target_ms: 100, instance_memory_mib: 256, shed_after_targets: 1.5}
    - {name: batch, class: be, cpu_work_s: 1, memory_mib: 512}
"""


def test_a_service_says_after_how_many_targets_it_gives_a_request_up() -> None:
    """Written out, and read again as the same fleet."""
    fleet = parse_fleet(TEXT, "f.yaml")

    assert {s.name: s.shed_after_targets for s in fleet.services} == {"web": 1.5, "batch": 0.0}
    assert parse_fleet(dump_fleet(fleet), "again.yaml") == fleet
    assert "shed_after_targets: 1.5" in dump_fleet(fleet)


def test_the_default_is_not_said_and_changes_no_hash() -> None:
    """Fleets of before are the same fleets."""
    fleet = load_fleet("demo")

    assert "shed_after_targets" not in dump_fleet(fleet)
    assert hash_of(fleet) == fleet.source_hash
    assert hash_of(parse_fleet(TEXT.replace(", shed_after_targets: 1.5", ""), "f")) == hash_of(
        parse_fleet(TEXT.replace("1.5", "0"), "f")
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (TEXT.replace("shed_after_targets: 1.5", "shed_after_targets: -1"), "shed_after_targets"),
        (TEXT.replace("memory_mib: 512", "memory_mib: 512, shed_after_targets: 1"), "a BE service has no target"),
    ],
    ids=["negative", "best-effort"],
)
def test_what_means_nothing_is_refused(wrong: str, said: str) -> None:
    """With the field and what was expected."""
    with pytest.raises(ConfigError, match=said):
        parse_fleet(wrong, "f.yaml")
