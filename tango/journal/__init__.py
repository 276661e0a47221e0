"""The journal of a cluster on SQLite: implements `tango.ports.journal.Journal`. No other place knows SQLite."""
