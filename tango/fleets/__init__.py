"""Fleet and service files: YAML read strictly, so that a typing error is met before anything starts.

`catalog` knows the built-in fleets, `declarations` turns a document into domain values and back (`clusters`: nodes and links),
`recipes` expands a large fleet, `fitting` refuses services that no node can hold, `yaml_document` reads YAML with the place of every
value.
"""

from tango.fleets.catalog import fleet_names, load_fleet, load_services, parse_fleet
from tango.fleets.declarations import declaration_of, dump_fleet, dump_recipe, dump_services
from tango.fleets.recipes import FleetRecipe, MachineType

__all__ = [
    "FleetRecipe",
    "MachineType",
    "declaration_of",
    "dump_fleet",
    "dump_recipe",
    "dump_services",
    "fleet_names",
    "load_fleet",
    "load_services",
    "parse_fleet",
]
