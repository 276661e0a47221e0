"""Tables of the store, as SQLAlchemy Core metadata. Used by `tango.store` and checked against the migrations by a test."""

from models.tables import metadata

__all__ = ["metadata"]
