"""Files that declare tenants: what they say is read strictly, and each mistake is told with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tango.domain.tenants import Guarantee, Tenant, tenant_as_dict, tenant_changes, tenant_from
from tango.errors import FileRefused
from tango.fleets import load_tenants

HEAD = "apiVersion: tango/v1\nkind: Tenant\nmetadata: {name: blue}\n"


def load(tmp_path: Path, text: str) -> tuple[Tenant, ...]:
    """The tenants of a file with this text."""
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    return load_tenants(file)


def test_a_file_declares_tenants_with_quantities_as_kubernetes_has_them(tmp_path: Path) -> None:
    """In order of the names; what is left out is the usual."""
    text = f"""{HEAD}spec:
  weight: 3
  quota: {{memory: 16Gi, cpu: 2500m, nvidia.com/gpu: 2}}
  jobs: 1000
---
apiVersion: tango.dev/v1
kind: Tenant
metadata: {{name: amber}}
spec: {{}}
"""
    blue = Tenant(name="blue", weight=3.0, quota=(("cpu", 2500), ("memory", 16384), ("nvidia.com/gpu", 2000)), most_jobs=1000)

    found = load(tmp_path, text)

    assert found == (Tenant(name="amber"), blue)
    assert blue.shown_quota() == {"cpu": "2500m", "memory": "16Gi", "nvidia.com/gpu": "2"}


def test_a_guarantee_is_of_cpu_in_the_fleet_or_in_some_clusters(tmp_path: Path) -> None:
    """Clusters in order of their names."""
    whole = load(tmp_path, f"{HEAD}spec: {{guarantee: {{cpu: 2500m}}}}\n")
    part = load(tmp_path, f"{HEAD}spec: {{guarantee: {{cpu: 8, clusters: [c2, c1]}}}}\n")

    assert whole == (Tenant(name="blue", guarantee=Guarantee(cpu_millicores=2500)),)
    assert part == (Tenant(name="blue", guarantee=Guarantee(cpu_millicores=8000, clusters=("c1", "c2"))),)
    assert [tenant.shown_guarantee() for tenant in (*whole, *part, Tenant(name="red"))] == ["2500m cpu", "8 cpu in c1, c2", ""]
    assert [tenant_from(json.loads(json.dumps(tenant_as_dict(tenant)))) for tenant in (*whole, *part)] == [*whole, *part]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{weight: 0}", "spec.weight is 0, expected a number from 1e-06 to 1e"),
        ("{weihgt: 2}", "spec.weihgt is an unknown key"),
        ("{quota: {cpu: much}}", "spec.quota.cpu is 'much', expected a quantity such as 8, 500m or 16Gi"),
        ("{quota: {cpu: -1}}", "expected a quantity of 0 or more"),
        ("{quota: {disk: 1}}", "is of 'disk', expected cpu, memory, or an extended resource"),
        ("{guarantee: {}}", "spec.guarantee.cpu is missing"),
        ("{guarantee: {cpu: 0}}", "spec.guarantee.cpu is 0, expected a quantity above 0"),
        ("{guarantee: {cpu: 1, memory: 1}}", "spec.guarantee.memory is an unknown key"),
        ("{guarantee: {cpu: 1, clusters: [c1, c1]}}", "spec.guarantee.clusters[1] is 'c1', expected each cluster once"),
        ("{jobs: -1}", "spec.jobs is -1, expected a whole number from 0"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, spec: str, message: str) -> None:
    """File, line, key, what was found and what was expected."""
    with pytest.raises(FileRefused, match=r"tenants\.yaml:4: ") as refused:
        load(tmp_path, f"{HEAD}spec: {spec}\n")

    assert message in str(refused.value)


def test_a_tenant_is_declared_once_and_by_a_document_of_its_kind(tmp_path: Path) -> None:
    """Neither twice nor as a service, and an empty file declares nobody."""
    twice = f"{HEAD}spec: {{}}\n---\n{HEAD}spec: {{weight: 2}}\n"

    for text, message in (
        (twice, "'blue', expected each tenant once"),
        ("apiVersion: tango/v1\nkind: Service\n", "expected Tenant"),
        ("", "expected at least one of kind Tenant"),
    ):
        with pytest.raises(FileRefused, match=message):
            load(tmp_path, text)


def test_what_a_declaration_changes_is_said_of_each_tenant_that_differs() -> None:
    """New ones, and those that become others; what stays is not told."""
    known = {"blue": Tenant(name="blue"), "red": Tenant(name="red")}
    wanted = [Tenant(name="blue", weight=2.0), Tenant(name="green", quota=(("cpu", 500),), most_jobs=3), Tenant(name="red")]

    assert tenant_changes(wanted, known) == [
        "blue: weight 1, quota none, jobs any becomes weight 2, quota none, jobs any",
        "green: new, weight 1, quota 500m of cpu, jobs 3",
    ]
