"""Fleet and service files: YAML read strictly, so that a typing error is met before anything starts.

`catalog` knows the built-in fleets, `declarations` turns a document into domain values, `yaml_document` reads YAML with
the place of every value.
"""

from tango.fleets.catalog import fleet_names, load_fleet, load_services, parse_fleet
from tango.fleets.declarations import dump_fleet, dump_services

__all__ = ["dump_fleet", "dump_services", "fleet_names", "load_fleet", "load_services", "parse_fleet"]
