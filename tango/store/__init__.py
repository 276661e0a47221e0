"""PostgreSQL: implements the store ports. Bulk statements over arrays, no ORM; foreign errors leave as `tango.errors`."""
