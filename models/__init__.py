"""Tables and views of the store, as SQLAlchemy Core metadata: the one description that everything else is held to.

A test compares a migrated database with it, another the columns that the SQL of `tango/store/` writes. No process of the stack
imports it: SQLAlchemy would cost each of them 20 MiB and a quarter of a second.
"""

from models.tables import metadata, type_name

__all__ = ["metadata", "type_name"]
