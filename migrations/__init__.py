"""Alembic migrations; `tango.store.migrate` runs them. A revision's name says whether it goes before (`pre`) or after the code."""
