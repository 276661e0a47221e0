"""Names used twice and services that no node can hold: refused with the line to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.domain.fleet import Cluster, Fleet, Node
from tango.errors import ConfigError
from tango.fleets import dump_fleet, load_fleet, parse_fleet

TEXT = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: tiny}
spec:
  clusters:
    - name: c1
      nodes:
        - {name: c1-n1, cpu_millicores: 4000, memory_mib: 2048}
    - name: c2
      nodes:
        - {name: c2-n1, cpu_millicores: 2000, memory_mib: 8192}
  services:
    - name: web
      class: lc
      cpu_work_s: 0.02
      target_ms: 100
      memory_mib: 32
      instance_memory_mib: 256
      cpu_request_millicores: 200
      cpu_limit_millicores: 5000
    - name: batch
      class: be
      cpu_work_s: 1
      memory_mib: 512
      cpu_request_millicores: 500
      cpu_limit_millicores: 5000
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "name: c2\n",
            "name: c1\n",
            "f.yaml:9: spec.clusters[1].name is 'c1', the name in line 6, expected a cluster name of its own",
        ),
        (
            "    - name: c2\n      nodes:\n        - {name: c2-n1",
            "        - {name: c1-n1",
            "f.yaml:9: spec.clusters[0].nodes[1].name is 'c1-n1', the name in line 8, expected a node name of its own",
        ),
        (
            "name: batch",
            "name: web",
            "f.yaml:21: spec.services[1].name is 'web', the name in line 13, expected a service name of its own",
        ),
        (
            "cpu_millicores: 4000",
            "cpu_millicores: 0",
            "f.yaml:8: spec.clusters[0].nodes[0].cpu_millicores is 0, expected a whole number from 1 to 4000000",
        ),
        (
            "memory_mib: 8192",
            "memory_mib: -1",
            "f.yaml:11: spec.clusters[1].nodes[0].memory_mib is -1, expected a whole number from 1 to 67108864",
        ),
        (
            "cpu_request_millicores: 200",
            "cpu_request_millicores: 4001",
            "f.yaml:19: spec.services[0].cpu_request_millicores of web is 4001, expected at most 4000, the CPU of the largest node",
        ),
        (
            "instance_memory_mib: 256",
            "instance_memory_mib: 8193",
            "f.yaml:18: spec.services[0].instance_memory_mib of web is 8193, expected at most 8192, the memory of the largest node",
        ),
        (
            "cpu_request_millicores: 500",
            "cpu_request_millicores: 4500",
            "f.yaml:25: spec.services[1].cpu_request_millicores of batch is 4500, expected at most 4000, the CPU of the largest node",
        ),
        (
            "memory_mib: 512",
            "memory_mib: 10000",
            "f.yaml:24: spec.services[1].memory_mib of batch is 10000, expected at most 8192, the memory of the largest node",
        ),
        (
            "memory_mib: 512\n      cpu_request_millicores: 500",
            "memory_mib: 4096\n      cpu_request_millicores: 3000",
            "f.yaml:24: spec.services[1].memory_mib of batch is 4096, expected less of one of them: no node has 3000 millicores and "
            "4096 MiB together",
        ),
        (
            "  clusters:\n",
            "  nodes: 3\n  klusters:\n",
            "f.yaml:5: spec.clusters is missing, expected a list of clusters, or a recipe in spec.generate",
        ),
    ],
)
def test_a_fleet_that_cannot_work_is_refused_where_it_is_wrong(old: str, new: str, message: str) -> None:
    """The message names file, line, key, what was found and what to write instead."""
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        parse_fleet(TEXT.replace(old, new, 1), "f.yaml")

    assert str(caught.value) == message


def test_a_fleet_in_force_is_read_whatever_fits(tmp_path: Path) -> None:
    """Only the door refuses: a fleet that is in force must stay readable after its services have changed."""
    text = TEXT.replace("cpu_request_millicores: 500", "cpu_request_millicores: 4500")

    path = tmp_path / "fleet.yaml"
    path.write_text(text)

    assert load_fleet(path, must_fit=False) == parse_fleet(text, "f.yaml", must_fit=False)
    with pytest.raises(ConfigError, match="of batch is 4500, expected at most 4000"):
        load_fleet(path)


def test_a_request_equal_to_the_largest_node_fits() -> None:
    """The bound itself is allowed: CPU of the one node, memory of the other, each for a service that needs little else."""
    text = TEXT.replace("cpu_request_millicores: 200", "cpu_request_millicores: 4000").replace(
        "memory_mib: 512", "memory_mib: 8192"
    )

    assert len(parse_fleet(text, "f.yaml").services) == 2


def test_a_fleet_built_in_code_refuses_a_name_used_twice() -> None:
    """Every name used twice is listed once, in order."""
    nodes = tuple(Node(name=name, cpu_millicores=1000, memory_mib=1024) for name in ("n2", "n1", "n2", "n1", "n1", "n3"))

    with pytest.raises(ConfigError, match=r"fleet 'f': cluster 'a': node name used twice: n1, n2$"):
        Fleet(name="f", clusters=(Cluster(name="a", nodes=nodes),), services=())


def test_clusters_may_have_nodes_of_the_same_names() -> None:
    """Kubernetes knows a node by its name within its cluster, and clusters made from one template have the same ones."""
    fleet = parse_fleet(TEXT.replace("c1-n1", "n1").replace("c2-n1", "n1"), "f.yaml")

    assert list(map(str, fleet.node_keys)) == ["c1/n1", "c2/n1"]
    assert parse_fleet(dump_fleet(fleet), "again").clusters == fleet.clusters
