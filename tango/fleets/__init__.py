"""Fleet and service files: YAML that is validated strictly, so that a typing error is found before anything starts.

`catalog` finds built-in fleets and reads files; `declarations` converts documents to domain values and back, `clusters` those keys that
declare nodes and links; `recipes` generates large fleets; `fitting` refuses services that no node can hold; `yaml_document` reads YAML
and keeps the line of every value for messages.
"""

from tango.fleets.catalog import fleet_names, fleet_text, load_fleet, load_services, load_tenants, parse_fleet
from tango.fleets.declarations import declaration_of, declared_spec, dump_fleet, dump_recipe, dump_services
from tango.fleets.recipes import FleetRecipe, MachineType, edge_machines, machines_of

__all__ = [
    "FleetRecipe",
    "MachineType",
    "declaration_of",
    "declared_spec",
    "dump_fleet",
    "dump_recipe",
    "dump_services",
    "edge_machines",
    "fleet_names",
    "fleet_text",
    "load_fleet",
    "load_services",
    "load_tenants",
    "machines_of",
    "parse_fleet",
]
