from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.fleet import Cluster, Node
from tango.errors import ConfigError
from tango.fleets import FleetRecipe, MachineType, dump_recipe, load_fleet, parse_fleet
from tango.fleets.recipes import expand

SMALL = MachineType(share=1, cpu_millicores=2000, memory_mib=3072)
LARGE = MachineType(share=3, cpu_millicores=8000, memory_mib=15360)
PINNED = (
    Cluster(name="c1", x_km=0.8, y_km=3.1, nodes=(Node(name="c1-n1", cpu_millicores=8000, memory_mib=15360),)),
    Cluster(
        name="c2",
        x_km=9.8,
        y_km=3.6,
        nodes=(
            Node(name="c2-n1", cpu_millicores=8000, memory_mib=15360),
            Node(name="c2-n2", cpu_millicores=8000, memory_mib=15360),
            Node(name="c2-n3", cpu_millicores=2000, memory_mib=3072),
        ),
    ),
)
TEXT = """\
apiVersion: tango/v1
kind: Fleet
metadata: {name: drawn}
spec:
  generate:
    clusters: 12
    nodes_min: 2
    nodes_max: 6
    area_km: 100
    seed: 7
    machines:
      - {share: 1, cpu_millicores: 4000, memory_mib: 8192}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, memory_mib: 32, target_ms: 100, instance_memory_mib: 256}
"""


def _recipe(**changed: object) -> FleetRecipe:
    figures = {"clusters": 2, "nodes_min": 1, "nodes_max": 3, "area_km": 10.0, "seed": 1, "machines": (SMALL, LARGE)}
    return FleetRecipe(**{**figures, **changed})


@given(
    clusters=st.integers(1, 30),
    bounds=st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
    fill=st.none() | st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_sizes_stay_in_bounds_and_a_total_is_met_exactly(clusters: int, bounds: list[int], fill: float | None, seed: int) -> None:
    """Every cluster has nodes_min to nodes_max nodes; `nodes`, where given, is the sum."""
    low, high = bounds
    nodes = None if fill is None else clusters * low + round(fill * clusters * (high - low))

    made = expand(_recipe(clusters=clusters, nodes_min=low, nodes_max=high, nodes=nodes, seed=seed))

    sizes = [len(cluster.nodes) for cluster in made]
    assert len(sizes) == clusters
    assert all(low <= size <= high for size in sizes)
    assert nodes is None or sum(sizes) == nodes
    assert all(0 <= at <= 10 for cluster in made for at in (cluster.x_km, cluster.y_km))


@given(nodes=st.integers(1, 60), seed=st.integers(0, 1000))
def test_machine_types_keep_their_shares_to_the_node(nodes: int, seed: int) -> None:
    """Types are dealt out, not rolled for: with shares of 1 to 3 a quarter of the nodes, rounded, is small."""
    made = expand(_recipe(clusters=1, nodes_min=nodes, nodes_max=nodes, seed=seed))

    counts = Counter(node.cpu_millicores for node in made[0].nodes)
    assert abs(counts[2000] - nodes / 4) <= 0.5
    assert counts.total() == nodes


def test_a_recipe_gives_these_very_clusters() -> None:
    """Pinned, so that another platform or version of NumPy that drew otherwise would be found."""
    assert expand(_recipe(nodes=4)) == PINNED


def test_the_seed_decides_and_more_nodes_do_not_move_the_sites() -> None:
    """Equal seeds give equal clusters, other seeds others; sites are drawn apart from sizes and machines."""
    sites = [(c.x_km, c.y_km) for c in expand(_recipe(nodes=3))]

    assert expand(_recipe(seed=1)) == expand(_recipe(seed=1))
    assert expand(_recipe(seed=1)) != expand(_recipe(seed=2))
    assert [(c.x_km, c.y_km) for c in expand(_recipe(nodes=6))] == sites


def test_names_sort_in_the_order_in_which_they_stand() -> None:
    """Zeros pad the numbers: c002 comes before c010, and c002-n02 before c002-n10."""
    made = expand(_recipe(clusters=120, nodes_min=9, nodes_max=11))
    names = [cluster.name for cluster in made]
    nodes = [node.name for cluster in made for node in cluster.nodes]

    assert names[0] == "c001"
    assert nodes[0] == "c001-n01"
    assert names == sorted(names)
    assert nodes == sorted(nodes)
    assert len(set(nodes)) == len(nodes)


def test_a_file_with_a_recipe_is_a_fleet() -> None:
    """`generate` stands in place of `clusters`; the hash is over the clusters that it gives."""
    fleet = parse_fleet(TEXT, "drawn.yaml")

    assert len(fleet.clusters) == 12
    assert all(2 <= len(cluster.nodes) <= 6 for cluster in fleet.clusters)
    assert parse_fleet(TEXT.replace("share: 1", "share: 2"), "drawn.yaml").source_hash == fleet.source_hash
    assert parse_fleet(TEXT.replace("seed: 7", "seed: 8"), "drawn.yaml").source_hash != fleet.source_hash


def test_a_written_recipe_is_short_and_reads_back_as_what_it_expands_to() -> None:
    """The file holds the recipe and what it borrows from another fleet, not the nodes."""
    like = load_fleet("paper")
    recipe = _recipe(clusters=50, nodes_min=4, nodes_max=9)

    text = dump_recipe("mine", recipe, like)
    made = parse_fleet(text, "mine.yaml")

    assert len(text.splitlines()) < 150
    assert (made.name, made.clusters) == ("mine", expand(recipe))
    assert (made.services, made.network, made.beta) == (like.services, like.network, like.beta)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  generate:",
            "  clusters: []\n  generate:",
            "fleet.yaml:7: spec.generate is given beside spec.clusters, expected one of the two",
        ),
        ("    seed: 7\n", "", "fleet.yaml:6: spec.generate.seed is missing, expected a whole number from"),
        ("seed: 7", "seed: 7\n    shape: ring", "fleet.yaml:11: spec.generate.shape is an unknown key, expected one of: area_km"),
        ("seed: 7", "seed: -1", "fleet.yaml:10: spec.generate.seed is -1, expected a whole number from 0 to 18446744073709551615"),
        ("clusters: 12", "clusters: 0", "fleet.yaml:6: spec.generate.clusters is 0, expected a whole number from 1 to 10000"),
        ("nodes_min: 2", "nodes_min: 7", "fleet.yaml:7: spec.generate.nodes_min is 7, expected at most nodes_max (6)"),
        (
            "seed: 7",
            "seed: 7\n    nodes: 73",
            "fleet.yaml:11: spec.generate.nodes is 73, expected 24 to 72: 12 clusters of 2 to 6 nodes",
        ),
        (
            "      - {share: 1, cpu_millicores: 4000, memory_mib: 8192}",
            "      []",
            "fleet.yaml:12: spec.generate.machines is an empty list, expected at least one type of machine",
        ),
        (
            "cpu_millicores: 4000",
            "cpu_millicores: 0",
            "fleet.yaml:12: spec.generate.machines[0].cpu_millicores is 0, expected a whole number from 1 to 4000000",
        ),
        ("share: 1", "share: 0", "fleet.yaml:12: spec.generate.machines[0].share is 0, expected a number from 1e-06 to 1e+06"),
        (
            "clusters: 12\n    nodes_min: 2\n    nodes_max: 6",
            "clusters: 10000\n    nodes_min: 2\n    nodes_max: 5000",
            "fleet.yaml:6: spec.generate is of more nodes than a fleet may have, expected clusters x nodes_max up to 100000, or a total",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    """A recipe is read as strictly as clusters that are written out."""
    assert old in TEXT

    with pytest.raises(ConfigError) as caught:
        parse_fleet(TEXT.replace(old, new, 1), "fleet.yaml")

    assert message in str(caught.value)
