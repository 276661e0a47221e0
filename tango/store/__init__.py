"""PostgreSQL: implements the store ports of `tango.ports`, with bulk statements over arrays and no ORM.

psycopg2's errors are translated into `tango.errors` in `database`, so that no use case catches them.
"""
