"""Fleets for experiments: by name, from a file, or drawn from a recipe."""

from __future__ import annotations

from pathlib import Path

from tango.domain.fleet import Fleet
from tango.fleets import FleetRecipe, dump_fleet, dump_recipe, fleet_text, load_fleet, machines_of, parse_fleet

FleetLike = Fleet | str | Path
"""A fleet, the name of a built-in one, or a YAML file (a text with a `/`, or that ends in .yaml or .yml)."""


def generate_fleet(
    clusters: int,
    *,
    nodes_min: int = 3,
    nodes_max: int = 20,
    nodes: int | None = None,
    area_km: float = 1000.0,
    seed: int = 0,
    like: FleetLike = "paper",
    name: str = "generated",
) -> Fleet:
    """A fleet whose clusters' sizes and sites are drawn by the seed, as those of `tango fleet generate`; equal arguments give equal fleets.

    Clusters have `nodes_min` to `nodes_max` nodes each and `nodes` together (None: as drawn), on a square of `area_km` kilometres a side.
    Services, network and the mix of machines are those of `like`.
    Raises: ConfigError for sizes that contradict each other; FileRefused for a service that no node can hold.
    """
    model = as_fleet(like)
    recipe = FleetRecipe(
        clusters=clusters,
        nodes_min=nodes_min,
        nodes_max=nodes_max,
        nodes=nodes,
        area_km=area_km,
        seed=seed,
        machines=machines_of(model),
    )
    return parse_fleet(dump_recipe(name, recipe, model), name)


def as_fleet(fleet: FleetLike) -> Fleet:
    """The fleet that is meant. Raises: as `load_fleet`."""
    return fleet if isinstance(fleet, Fleet) else load_fleet(fleet)


def as_text(fleet: FleetLike) -> str:
    """The fleet as a cell has it: the name of a built-in one, else its declaration."""
    return dump_fleet(fleet) if isinstance(fleet, Fleet) else fleet_text(fleet)
